#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What `meson install` gives systemd: units it accepts without a word, an exposure of at most 2.0, the user, the
# folders; and sockets that a service manager holds are served and outlive a restart.
#   units.sh BUILD-FOLDER
set -euo pipefail

build=$(readlink -f "$1")
cd "$(dirname "$0")/../.."
for tool in systemd-analyze systemd-sysusers systemd-tmpfiles systemd-socket-activate; do
  command -v $tool >/dev/null || { echo "$tool is not installed" && exit 77; }
done
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
DESTDIR=$stage/root meson install -C "$build" --no-rebuild --quiet
units=$(dirname "$(find "$stage/root" -name postern.service)")
version=$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')

# --- the words are known and the files exist: with the binary where the unit says -------------------------------------
mkdir "$stage/units"
cp "$units"/postern.* "$stage/units/"
sed -i "s,^ExecStart=[^ ]*,ExecStart=$build/postern," "$stage/units/postern.service"
complaints=$(SYSTEMD_UNIT_PATH="$stage/units:" systemd-analyze verify --man=no "$stage"/units/postern.{service,socket} 2>&1 | grep -i postern || true)
[ -z "$complaints" ] || { printf '%s\n' "$complaints" && exit 1; }
if [ "$version" -ge 253 ]; then form=notify-reload; else form=notify; fi
grep -qx "Type=$form" "$units/postern.service" || { echo "systemd $version, but not Type=$form" && exit 1; }

# --- exposure ----------------------------------------------------------------------------------------------------
systemd-analyze security --offline=true --no-pager --threshold=20 "$units/postern.service" >"$stage/security" ||
  { cat "$stage/security" && exit 1; }
tail -n 1 "$stage/security"

# --- user and folders, in a root of their own ------------------------------------------------------------------------
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$stage/root/etc"
  systemd-sysusers --root="$stage/root" postern.conf 2>/dev/null
  grep -q '^postern:' "$stage/root/etc/passwd" || { echo "no user" && exit 1; }
  systemd-tmpfiles --create --root="$stage/root" postern.conf
  [ "$(stat -c %a "$stage/root/etc/postern/tls")" = 750 ] || { echo "no folder for keys" && exit 1; }
fi

# --- sockets from outside, the priority of records ------------------------------------------------------------------
python3 - "$build/postern" "$stage" <<'PY'
import os, signal, socket, subprocess, sys, time
binary, stage = sys.argv[1:]
held = socket.create_server(("127.0.0.1", 0))
port = held.getsockname()[1]
open(f"{stage}/accounts", "w").close()
with open(f"{stage}/p.toml", "w") as f:
    f.write(f'''
[server]
max_connections = 100
[listener.imap]
protocol = "imap"
bind = "127.0.0.1:{port}"
tls = "starttls"
[routing]
default_destination = "d"
[mapping]
source = "file"
[mapping.file]
path = "{stage}/accounts"
[destination.d]
host = "127.0.0.1"
forwarding = "none"
allow_plaintext_auth = true
protocol.imap = {{ port = 1, tls = "plain" }}
''')
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(f"{stage}/notify")
notify.settimeout(10)

def start():
    out, written = os.pipe()
    status = os.fstat(written)
    def become():  # descriptor 3 and who it is for, as systemd does it
        os.dup2(held.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", NOTIFY_SOCKET=f"{stage}/notify",
                          JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}")
    pid = os.fork()
    if pid == 0:
        os.dup2(written, 1)
        become()
        os.execv(binary, [binary, "run", "--seccomp", f"{stage}/p.toml"])
    os.close(written)
    return pid, out

def heard(word):
    while True:
        text = notify.recv(4096).decode()
        if word in text:
            return text

def greeting(client):
    client.settimeout(10)
    line = client.recv(1000)
    assert line.startswith(b"* OK"), line

def connect():
    return socket.create_connection(("127.0.0.1", port), 10)

pid, out = start()
heard("READY=1")
live = connect()
greeting(live)
os.kill(pid, signal.SIGHUP)
heard("RELOADING=1")
heard("READY=1")
os.kill(pid, signal.SIGTERM)
text = heard("STOPPING=1")
assert "EXTEND_TIMEOUT_USEC=35000000" in text, text  # 30 s of grace and 5
def queued():  # while the old one drains nobody is refused: whoever comes now waits for the next one to greet
    for _ in range(50):  # the announcement comes a moment before the last listener closes
        client = connect()
        client.settimeout(0.3)
        try:
            assert client.recv(1000).startswith(b"* OK"), "neither greeted nor left waiting"
            client.close()
        except TimeoutError:
            return client
    raise AssertionError("the old one goes on accepting")

between = queued()
live.sendall(b"a NOOP\r\n")
assert live.recv(1000).startswith(b"a OK"), "a live session was cut"
live.sendall(b"b LOGOUT\r\n")
live.close()
os.waitpid(pid, 0)
text = os.fdopen(out, "rb").read().decode()
assert text.splitlines() and all(line.startswith("<6>time=") for line in text.splitlines()), text
assert "inherited=true" in text, text
pid, _ = start()
heard("READY=1")
greeting(between)
between.close()
os.kill(pid, signal.SIGTERM)
assert os.waitpid(pid, 0)[1] == 0
print("held sockets: a restart refused nobody, a live session ended by itself; reload and stop were announced")
PY
