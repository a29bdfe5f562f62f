# What the scripts of the search servers share: one process each, of the jars that their makers publish. Sourced, not run.
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

# compiled HOME CLASS: a folder with the program of tests/services/search/CLASS.java, compiled against HOME's jars, once.
compiled() {
  local home=$1 class=$2 source=$here/search/$2.java out
  out=$home-$(sha256sum "$source" | cut -c1-12)
  if [ ! -e "$out" ]; then
    exec 8>"$cache/search.lock"
    flock 8
    if [ ! -e "$out" ]; then
      rm -rf "$out.new"
      javac -nowarn -cp "$home/*" -d "$out.new" "$source" >"$out.log" 2>&1 || {
        cat "$out.log" >&2
        die "$class.java did not compile"
      }
      mv "$out.new" "$out"
    fi
    exec 8>&-
  fi
  echo "$out"
}

# class_path DIR HOME CLASS: the program and all jars but those that DIR/home loads as modules.
class_path() {
  local jar path
  path=$(compiled "$2" "$3")
  for jar in "$2"/*.jar; do
    [ -n "$(find "$1/home/modules" -name "${jar##*/}" 2>/dev/null)" ] || path=$path:$jar
  done
  echo "$path"
}

# node DIR PORT HOME CLASS: starts it on a path that is this server's own.
node() {
  local dir=$1 port=$2 home=$3 class=$4 path transport
  path=$(class_path "$dir" "$home" "$class")
  mkdir -p "$dir/data" "$dir/transport" "$dir/home/config" "$dir/home/logs" "$dir/home/plugins"
  transport=$(port_of "$dir/transport")
  java_flags "$home"
  launch "$dir" TERM java -Xms384m -Xmx384m -XX:TieredStopAtLevel=1 "${flags[@]}" -Dlog4j2.disableJmx=true -Dlog4j2.disable.jmx=true \
    -Dlog4j2.configurationFile="file:$here/log4j2.properties" -cp "$path" "$class" "$dir/home" "$dir/data" \
    cluster.name=tests node.name=tests discovery.type=single-node http.host=127.0.0.1 http.port="$port" http.type=netty4 \
    transport.host=127.0.0.1 transport.port="$transport" transport.type=netty4 cluster.routing.allocation.disk.threshold_enabled=false \
    indices.breaker.total.use_real_memory=false
  await "$dir" curl -sf -o "$dir/health" --max-time 2 "http://127.0.0.1:$port/_cluster/health?wait_for_status=yellow&timeout=1s"
  echo "http://127.0.0.1:$port" >"$dir/address"
}

# run CLASS up|kill|down [DIR [PORT]]: `prepare DIR` prints the folder of its jars and puts what else it needs into DIR/home.
run() {
  local class=$1 verb=${2:-} dir home port
  case $verb in
    up)
      dir=$(state "${3:-}")
      exec 9>"$dir/lock"
      flock 9
      if ! alive "$dir"; then
        home=$(prepare "$dir")
        port=$(port_of "$dir" "${4:-}")
        ! listens "$port" || die "port $port is taken: name another"
        node "$dir" "$port" "$home" "$class"
      fi
      cat "$dir/address"
      ;;
    kill) stop "$(state "${3:-}")" KILL ;;
    down) down "$(state "${3:-}")" ;;
    *) die "usage: $name up|kill|down [DIR [PORT]]" ;;
  esac
}
