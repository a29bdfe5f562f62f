# What the scripts of the brokers share. Sourced, not run.
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

kafka_jars() {
  from_maven kafka-4.4.0 org.apache.kafka:kafka_2.13:4.4.0 org.apache.logging.log4j:log4j-slf4j-impl:2.25.5
}

# settings DIR PORT CONTROLLER_PORT: what every broker is told about itself; its roles are both, so that one
# process is a whole Kafka.
settings() {
  cat "$here/kafka.properties"
  cat <<END
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=PLAINTEXT://127.0.0.1:$2
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$3
log.dirs=$1/data
num.network.threads=2
num.io.threads=4
background.threads=2
END
}

controller_port() {
  mkdir -p "$1/controller"
  port_of "$1/controller"
}

class_path() {
  printf '%s\n' "$1"/*.jar | LC_ALL=C sort | paste -sd:
}

# format DIR JARS CLUSTER [OPTION...]: prepares the data, once; the options are for the first records in it.
format() {
  local dir=$1 jars=$2 cluster=$3
  shift 3
  [ ! -s "$dir/data/meta.properties" ] || return 0
  java_flags "$jars"
  java -XX:TieredStopAtLevel=1 "${flags[@]}" -Dlog4j2.configurationFile="$here/log4j2.properties" -cp "$(class_path "$jars")" \
    kafka.tools.StorageTool format -t "$cluster" -c "$dir/server.properties" "$@" >"$dir/format.log" 2>&1 || {
    tail -n 20 "$dir/format.log" >&2
    die "the data could not be prepared"
  }
}

# broker DIR JARS SIGNAL [JAVA-OPTION...]: starts it; `ready` says when it serves.
# ANNALS_TEST_FIGURES=1 gives it the heap and the collector that Kafka's own start script gives a broker (bin/
# kafka-server-start.sh and kafka-run-class.sh of Kafka 4): with less, it stands still for 25 ms every 300 transactions.
broker() {
  local dir=$1 jars=$2 signal=$3
  shift 3
  if [ -n "${ANNALS_TEST_FIGURES:-}" ]; then
    flags=(-Xms1G -Xmx1G -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent)
  fi
  launch "$dir" "$signal" java -Xmx384m "${flags[@]}" "$@" -Dlog4j2.disableJmx=true \
    -Dlog4j2.configurationFile="$here/log4j2.properties" -cp "$(class_path "$jars")" kafka.Kafka "$dir/server.properties"
}

ready() {
  grep -q 'Kafka Server started' "$1/log" && listens "$(cat "$1/port")"
}

cluster_id() {
  head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c1-22
}
