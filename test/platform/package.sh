#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the Debian package and lives with it under a real systemd, booted in a container: installed, started,
# logged in through, reloaded, upgraded under a live session, socket-activated, removed, purged; and does in it what
# deploy/guides/systemd.md says, as it is written there.
#   package.sh [PACKAGE]       one that is built already
set -euo pipefail
cd "$(dirname "$0")/../.."

# --- what the place asks for: the boot, the upgrade and the removal ------------------------------------------------
inside() { nsenter --target "$(cat "$stage/leader")" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
main_pid() { inside systemctl show --property=MainPID --value postern; }
want() { [ "$1" = "$2" ] || { echo "package: $3: \"$1\", not \"$2\"" && exit 1; }; }
active() { inside systemctl is-active "$1" || true; }
fence() { sed -n "/^<!-- run: package, $1 -->\$/,/^\`\`\`\$/p" deploy/guides/systemd.md | grep -v -e '^<!--' -e '^```'; }
say_to() { printf '%s\r\n' "$2" >&"$1"; }
hear() {  # DESCRIPTOR PATTERN
  local line
  read -r -t 20 -u "$1" line || { echo "package: silence, not $2" && exit 1; }
  [[ $line == $2* ]] || { echo "package: $line, not $2" && exit 1; }
}

# The guide's commands from its first to its last start, on ports that are nobody else's.
as_the_guide_says() {
  local drop_in=/run/systemd/system/postern.service.d tries=0
  inside sh -c "mkdir -p $drop_in && printf '[Service]\nPrivateNetwork=yes\n' >$drop_in/alone.conf && systemctl daemon-reload"
  inside bash -euxc "cd /debs/given; $(fence start)"
  want "$(active postern)" active "after the guide's start"
  inside bash -euxc "$(fence renewal)"
  inside env RENEWED_LINEAGE=/debs/renewed /etc/letsencrypt/renewal-hooks/deploy/postern
  while ! inside journalctl --unit=postern --output=cat | grep -F scope=files; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { echo "package: the renewed certificate is not seen" && exit 1; }
    sleep 0.1
  done
  inside bash -euxc "$(fence options)"
  # shellcheck disable=SC2016 # the inner shell's own
  want "$(inside sh -c 'tr "\0" " " </proc/$(systemctl show --property=MainPID --value postern)/cmdline')" \
    "/usr/sbin/postern run --seccomp --seccomp=log " "the options of the guide"
  inside systemctl stop postern
  inside unshare --net timeout --preserve-status 3 bash -c "$(fence alone)"
  inside sh -c "rm -r $drop_in /etc/letsencrypt /etc/default/postern /etc/postern/postern.toml /etc/postern/tls/*.pem && systemctl daemon-reload"
  touch "$stage/guide"
}

serve() {
  systemd-nspawn --quiet --register=no --keep-unit --volatile=overlay --directory="$system" --link-journal=no \
    --bind-ro="$stage/debs:/debs" --bind-ro="$stage/etc:/config" --console=pipe --boot </dev/null >"$stage/console" 2>&1 &
  local container=$! tries=0
  trap 'inside journalctl --unit=postern --no-pager; kill -KILL "$(cat "$stage/leader")"; exit 143' TERM
  while ! pgrep -P $container >"$stage/leader" || [[ $(inside systemctl is-system-running 2>/dev/null) != [rd]* ]]; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 $container; then echo "package: the container does not boot" && exit 1; fi
    sleep 0.2
  done
  {
    inside dpkg -i "/debs/old.deb"
    want "$(active postern)" inactive "without a configuration"
    inside getent passwd postern
    want "$(inside stat -c '%a %U %G' /etc/postern)" "750 root postern" "the folder of the configuration"
    as_the_guide_says
    inside sh -c 'cp -rL /config/. /etc/postern/ && chgrp -R postern /etc/postern && chmod 640 /etc/postern/tls/tls.key'
    inside systemctl start postern || inside journalctl --unit=postern --no-pager
    want "$(active postern)" active "with one"
  } >&2
  wait $container
}

upgrade() {
  local before
  before=$(main_pid)
  exec 5<>/dev/tcp/127.0.0.77/143
  hear 5 '\* OK'
  inside systemctl reload postern
  inside dpkg -i /debs/new.deb
  # shellcheck disable=SC2016 # the dollar is dpkg-query's
  want "$(inside dpkg-query -W -f '${Version}' postern)" 9.9 "the version installed"
  want "$(main_pid)" "$before" "the process after an upgrade"
  say_to 5 'a NOOP' && hear 5 'a OK'
  echo "upgraded: the same process, the session goes on"

  # The ports move to systemd; from then on a restart refuses nobody.
  exec 5>&-
  inside bash -euxc "$(fence sockets | sed 's/=993/=127.0.0.77:143/; s/=465/=127.0.0.77:993/')"
  exec 5<>/dev/tcp/127.0.0.77/143  # this starts it
  hear 5 '\* OK'
  before=$(main_pid)
  inside systemctl restart --no-block postern
  sleep 0.3
  exec 6<>/dev/tcp/127.0.0.77/143  # in between
  say_to 5 'a NOOP' && hear 5 'a OK'
  say_to 5 'b LOGOUT' && hear 5 '\* BYE'
  hear 6 '\* OK'
  [ "$(main_pid)" != "$before" ] || { echo "package: it was not restarted" && exit 1; }
  echo "restarted on held sockets: the live session ended by itself, the new one waited and was served"

  want "$(inside journalctl --unit=postern --identifier=postern --output=cat --priority=info --lines=1 | cut -c1-5)" time= "records in the journal"
  inside systemd-analyze security --no-pager postern.service | tail -n 1
}

remove() {
  inside dpkg --remove postern
  want "$(active postern)" inactive "after the removal"
  want "$(active postern.socket)" inactive "its sockets after the removal"
  inside test -e /etc/postern/postern.toml
  inside rm -r /etc/postern/postern.toml /etc/postern/accounts /etc/postern/tls /etc/systemd/system/postern.socket.d
  inside dpkg --purge postern
  left=$(inside find / -xdev -ipath '*postern*' -not -path '/proc/*' -not -path '/debs/*' -not -path '/var/log/*' -not -path '/tmp/*')
  want "$left" "" "what the purge left"
  echo "removed and purged: nothing is left but the user"
  inside systemctl poweroff
}
case ${1:-} in --serve | --upgrade | --remove)
  "${1#--}"  # in no condition, where a failure would not end it
  exit
  ;;
esac

# --- the package, and one that is newer ------------------------------------------------------------------------------
# shellcheck source=test/platform/bases.sh
. test/platform/bases.sh
needs_root_and dh mmdebstrap systemd-nspawn nsenter dovecot
stage=$(mktemp -d /tmp/postern.XXXXXX)
clean_up() {
  [ ! -s "$stage/leader" ] || kill -KILL "$(cat "$stage/leader")" 2>/dev/null || true
  rm -rf "$stage"
}
trap clean_up EXIT
trap 'exit 143' INT TERM
chmod 755 "$stage"
mkdir -p "$stage/debs" "$stage/debs/given" "$stage/debs/renewed"
for pair in given renewed; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=mail.example.org \
    -keyout "$stage/debs/$pair/privkey.pem" -out "$stage/debs/$pair/fullchain.pem" 2>/dev/null
done
since=$SECONDS
seconds() { printf '%s: %d s\n' "$1" $((SECONDS - since)) && since=$SECONDS; }
if [ -n "${1:-}" ]; then
  cp "$1" "$stage/debs/old.deb"
else
  deploy/build-deb "$stage"
  mv "$stage"/postern_*.deb "$stage/debs/old.deb"
fi
dpkg-deb -R "$stage/debs/old.deb" "$stage/new"
sed -i 's/^Version: .*/Version: 9.9/' "$stage/new/DEBIAN/control"
dpkg-deb --root-owner-group -b "$stage/new" "$stage/debs/new.deb" >/dev/null
dpkg-deb -I "$stage/debs/old.deb" | sed -n 's/^ \(Depends\|Installed-Size\)/\1/p'
test/checks/hardening.sh "$stage/new/usr/sbin/postern"
packed=$(find "$stage/new/usr/share/doc" -name '*.gz' -not -name 'changelog*.gz')
[ -z "$packed" ] || { echo "package: nobody can read packed manifests and documents:" "$packed" && exit 1; }
seconds "package"

libraries=$(dpkg-deb -f "$stage/debs/old.deb" Depends | tr ',' '\n' | sed 's/|.*//; s/(.*//; s/ //g' | sort | tr '\n' ' ')
# shellcheck disable=SC2086 # a list of names
system=$(base_system $libraries)
seconds "system"
export stage system
test/platform/place.py --etc /etc/postern --while "test/platform/package.sh --upgrade" --stop "test/platform/package.sh --remove" "$stage" test/platform/package.sh --serve
[ -e "$stage/guide" ] && echo "the commands of the guide ran as they are written"
seconds "life"
