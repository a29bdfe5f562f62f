# What the scripts of the servers share: where state lies, free ports, processes that end when told,
# downloads. Sourced, not run.
name=${0##*/}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ANNALS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/annals}
mkdir -p "$cache"

die() {
  echo "tests/services/$name: $*" >&2
  exit 1
}

# state [DIR]: makes the directory of a server and prints it; without DIR there is one a user and a server.
state() {
  local dir=${1:-${TMPDIR:-/tmp}/annals-services-$(id -u)/$name}
  # PostgreSQL does not run as root and must be able to pass through.
  (umask 022 && mkdir -p "$dir")
  [ -O "$dir" ] || die "\`$dir\` belongs to somebody else: name another directory"
  (cd "$dir" && pwd)
}

# port_of DIR [PORT]: the server's port: as told, or as at its last start, or a free one.
port_of() {
  local file=$1/port told=${2:-} port
  if [ -n "$told" ]; then
    echo "$told" >"$file"
  elif [ ! -s "$file" ]; then
    mkdir -p "$cache/ports"
    find "$cache/ports" -type f -mmin +10 -delete
    # Below the ports that Linux gives to outgoing connections: while a server is down, one of those
    # could take its port, or a client that tries again and again could get connected to itself.
    # The claim keeps servers that start at the same moment apart, until each listens.
    while :; do
      port=$((20000 + RANDOM % 12000))
      if (set -o noclobber && : >"$cache/ports/$port") 2>/dev/null && ! listens "$port"; then break; fi
    done
    echo "$port" >"$file"
  fi
  cat "$file"
}

listens() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# born PID: when the process began; nothing when there is none. With the number it names a process
# for good, so that no other one that got the number later is ever ended.
born() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
  # What follows the name, which may hold spaces: state, then 18 fields, then the time.
  read -ra stat <<<"${stat##*) }"
  # Dead (Z) is who is not waited for, once all its threads are: the last one closes the port.
  if [ "${stat[0]}" != Z ] || [ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" -gt 1 ]; then echo "${stat[19]}"; fi
}

alive() {
  local pid began rest
  { read -r pid began rest <"$1/pid"; } 2>/dev/null && [ "$(born "$pid")" = "$began" ]
}

# launch DIR SIGNAL COMMAND...: runs it in a session of its own, so that Ctrl-C does not reach it; SIGNAL ends it.
launch() {
  local dir=$1 signal=$2
  shift 2
  setsid "$@" >"$dir/log" 2>&1 </dev/null 9>&- &
  echo "$! $(born $!) $signal" >"$dir/pid"
}

# await DIR CONDITION...: until the condition holds, if the server lives so long.
await() {
  local dir=$1 deadline=$((SECONDS + 180))
  shift
  until "$@"; do
    if ! alive "$dir"; then
      tail -n 30 "$dir/log" >&2
      die "it ended; what it said is above"
    elif [ "$SECONDS" -gt "$deadline" ]; then
      tail -n 30 "$dir/log" >&2
      die "not ready within three minutes; what it said is above"
    fi
    sleep 0.05
  done
}

# stop DIR [SIGNAL]: ends the server and waits for its end; nothing when it does not run.
stop() {
  local dir=$1 pid began signal
  alive "$dir" || return 0
  read -r pid began signal <"$dir/pid"
  signal=${2:-$signal}
  if [ "$signal" = KILL ]; then
    # PostgreSQL's own processes live a moment longer than their parent, and keep the data locked.
    kill -KILL "$pid" $(cat "/proc/$pid/task/"*/children 2>/dev/null) 2>/dev/null || true
  else
    kill -"$signal" "$pid" 2>/dev/null || true
  fi
  for ((i = 0; i < 600; i++)); do
    alive "$dir" || return 0
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
}

# installed PACKAGE...: Debian's packages, for what is not there.
installed() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "something is missing; as root it would be installed: apt-get install $*"
  echo "tests/services/$name: installing $*" >&2
  local work options
  work=$(mktemp -d "$cache/apt.XXXXXX")
  mkdir "$work/partial"
  # Two apt-get at a time delete each other's downloads: an archive folder of our own, and one at a time.
  options=(-q -y --no-install-recommends -o "Dir::Cache::archives=$work" -o DPkg::Lock::Timeout=300
    -o APT::Sandbox::User=root -o Dpkg::Options::=--force-confold)
  (
    flock 8
    export DEBIAN_FRONTEND=noninteractive
    apt-get "${options[@]}" install "$@" || { apt-get "${options[@]}" update && apt-get "${options[@]}" install "$@"; }
  ) 8>"$cache/apt.lock" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    rm -rf "$work"
    die "\`apt-get install $*\` failed"
  }
  rm -rf "$work"
}

# from_debian PACKAGE: a folder in the cache with Debian's package, unpacked, once; prints it. Nothing is installed and no
# service is started.
from_debian() {
  local home=$cache/$1 work options command
  [ ! -e "$home/ready" ] || { echo "$home" && return; }
  for command in apt-get dpkg-deb; do
    command -v "$command" >/dev/null || die "\`$command\` is missing, so Debian's package $1 cannot be unpacked: put its programs on PATH"
  done
  exec 8>"$cache/debian.lock"
  flock 8
  if [ ! -e "$home/ready" ]; then
    work=$(mktemp -d "$cache/debian.XXXXXX")
    # Two apt-get at a time delete each other's downloads, hence an archive folder of our own; as root,
    # apt downloads as `_apt`, which cannot write into ours.
    options=(-q -o "Dir::Cache::archives=$work" -o DPkg::Lock::Timeout=120 -o APT::Sandbox::User=root)
    fetch() { (cd "$work" && apt-get "${options[@]}" download "$1") >"$work/log" 2>&1; }
    # A fresh machine has no package lists, or has old ones that name files which are gone.
    fetch "$1" || { apt-get "${options[@]}" update >"$work/update.log" 2>&1 && fetch "$1"; } || {
      tail -n 5 "$work"/*log >&2
      rm -rf "$work"
      die "\`apt-get download $1\` failed"
    }
    dpkg-deb -x "$work/$1"_*.deb "$work/unpacked"
    touch "$work/unpacked/ready"
    rm -rf "$home"
    mv "$work/unpacked" "$home"
    rm -rf "$work"
  fi
  exec 8>&-
  echo "$home"
}

# from_maven NAME ARTIFACT...: a folder in the cache with what was downloaded, once; prints it. An artifact is
# group:artifact:version for jars and all that they need, or group:artifact:version:tar.gz:all for an archive, unpacked.
from_maven() {
  local home=$cache/$1 work
  shift
  [ ! -e "$home/ready" ] || { echo "$home" && return; }
  java_tools
  # Maven's own repository does not stand two at a time.
  exec 8>"$cache/maven.lock"
  flock 8
  if [ ! -e "$home/ready" ]; then
    echo "tests/services/$name: downloading $* (once)" >&2
    work=$(mktemp -d "$cache/maven.XXXXXX")
    mkdir "$work/files"
    download "$work" "$@" >"$work/log" 2>&1 || {
      tail -n 20 "$work/log" >&2
      rm -rf "$work"
      die "Maven could not download $*: it needs Maven Central (or a mirror in its settings)"
    }
    rm -rf "$home"
    touch "$work/files/ready"
    mv "$work/files" "$home"
    rm -rf "$work"
  fi
  exec 8>&-
  echo "$home"
}

download() {
  local work=$1 plugin=org.apache.maven.plugins:maven-dependency-plugin artifact part
  shift
  # -C: a file whose checksum is wrong is refused.
  if [[ $1 == *:tar.gz:* ]]; then
    # Version 2.8, since later ones want the artifact's parent too, and Apicurio publishes none.
    (cd "$work" && mvn -B -q -C "$plugin:2.8:copy" -Dartifact="$1" -DoutputDirectory="$work/archive") || return
    tar -xzf "$work"/archive/*.tar.gz -C "$work/files"
    return
  fi
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>annals</groupId><artifactId>tests</artifactId><version>1</version><dependencies>'
    for artifact; do
      IFS=: read -ra part <<<"$artifact"
      echo "<dependency><groupId>${part[0]}</groupId><artifactId>${part[1]}</artifactId><version>${part[2]}</version></dependency>"
    done
    echo '</dependencies></project>'
  } >"$work/pom.xml"
  mvn -B -q -C -f "$work/pom.xml" "$plugin:3.8.1:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$work/files"
}

java_tools() {
  if ! command -v java >/dev/null || ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then
    installed default-jdk-headless maven
  fi
}

# java_flags HOME [DIR]: sets `flags` for a server whose jars lie in HOME. The first polite end of a server of DIR
# leaves an archive of loaded classes, with which later ones start faster; it is for one build of Java.
java_flags() {
  local archive
  archive=$1/classes-$(stat -Lc %Y "$(command -v java)").jsa
  # Short lives on few cores: the serial collector, and no file for monitoring tools.
  flags=(-XX:+UseSerialGC -XX:-UsePerfData -Xlog:cds=off -Xlog:cds+dynamic=off)
  if [ -s "$archive" ]; then
    flags+=(-XX:SharedArchiveFile="$archive")
  elif [ -n "${2:-}" ]; then
    echo "$archive" >"$2/archive"
    flags+=(-XX:ArchiveClassesAtExit="$2/classes.jsa")
  fi
}

# down DIR: ends the servers whose state lies in DIR or below, and removes what they wrote; their logs stay, and
# their ports for the next start.
down() {
  local file dir
  for file in $(find "$1" -maxdepth 3 -name pid -type f); do
    (
      dir=$(dirname "$file")
      stop "$dir"
      [ ! -s "$dir/classes.jsa" ] || mv -f "$dir/classes.jsa" "$(cat "$dir/archive")"
      rm -rf "$dir/data" "$dir/pid" "$dir/address" "$dir/archive" "$dir/classes.jsa"
    ) &
  done
  wait
}
