#!/bin/sh
# Installs the Debian packages of missing programs:
#   packages.sh python   for the virtual environment
#   packages.sh run      for `make run`
#   packages.sh test     for `make test`
# It does not start services, leaves new ones disabled, and does not change existing ones.
set -eu

PURPOSE=${1:-}
PYTHON=${PYTHON:-python3}
PATH=$PATH:/usr/sbin:/sbin
ROOT=${DPKG_ROOT:-} # as in package scripts; tests use a separate root
POLICY=$ROOT/usr/sbin/policy-rc.d
POLICY_SAVED=$POLICY.pubsubcache-saved
POLICY_NEW=$POLICY.pubsubcache-new
POLICY_MARK="# Put here by packages.sh while it installs, and removed after."
NO_CLUSTER=$ROOT/etc/postgresql-common/createcluster.d/pubsubcache-no-main.conf
SERVICES="prosody ejabberd epmd postgresql redis-server"

say() {
    printf '%s\n' "$*" >&2
}

has() {
    command -v "$1" >/dev/null 2>&1
}

has_venv() {
    has "$PYTHON" && "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null
}

# Returns whether its first argument exists; the arguments are an expanded pattern.
found() {
    [ -e "$1" ]
}

has_postgresql() {
    has postgres || found /usr/lib/postgresql/*/bin/postgres
}

# SQLite driver for Prosody. Without it, filling a node with a thousand items takes minutes.
has_lua_sqlite() {
    found /usr/lib/*/lua/5.*/dbd/sqlite3.so || found /usr/lib/lua/5.*/dbd/sqlite3.so
}

has_ejabberd() {
    has erl && { found /usr/lib/*/ejabberd-*/ebin || found /usr/lib/erlang/lib/ejabberd-*/ebin; }
}

# Library that fakes the clock of a process.
has_libfaketime() {
    found /usr/lib/*/faketime/libfaketimeMT.so.1 || found /usr/lib/faketime/libfaketimeMT.so.1
}

# Prints the packages of missing programs.
missing() {
    has_venv || echo python3 python3-venv
    [ "$PURPOSE" != python ] || return 0
    has prosody || echo prosody
    has_lua_sqlite || echo lua-dbi-sqlite3
    [ "$PURPOSE" = test ] || return 0
    has_ejabberd || echo ejabberd
    has_postgresql || echo postgresql
    has redis-server || echo redis-server
    has chromium || echo chromium
    has chromedriver || echo chromium-driver
    has_libfaketime || echo faketime
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

# Prints the installed services, one per line.
known_services() {
    for service in $SERVICES; do
        for file in "$ROOT/etc/init.d/$service" "$ROOT/lib/systemd/system/$service.service" \
            "$ROOT/lib/systemd/system/$service.socket"; do
            [ ! -e "$file" ] || echo "${file##*/}"
        done
    done
}

is_our_policy() {
    [ -e "$POLICY" ] && grep -qxF "$POLICY_MARK" "$POLICY"
}

# Returns whether an earlier run was killed. A running one holds the lock.
is_left_over() {
    is_our_policy || [ -e "$POLICY_SAVED" ] || [ -L "$POLICY_SAVED" ] || [ -e "$NO_CLUSTER" ]
}

restore() {
    rm -f "$POLICY_NEW"
    if is_our_policy; then
        rm -f "$POLICY"
    fi
    if [ -e "$POLICY_SAVED" ] || [ -L "$POLICY_SAVED" ]; then
        mv -f "$POLICY_SAVED" "$POLICY"
    fi
    if [ -e "$NO_CLUSTER" ]; then
        rm -f "$NO_CLUSTER"
        rmdir --ignore-fail-on-non-empty "${NO_CLUSTER%/*}"
    fi
}

lock() {
    exec 9<"$0"
    flock 9
}

# Quotes a word for the shell.
quoted() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

# Installs a policy that forbids services while the lock is held, by this script or, if it was killed, by apt-get.
# Afterwards the policy removes itself and restores the previous one.
forbid_services() {
    if [ -e "$POLICY" ] || [ -L "$POLICY" ]; then
        cp -Pp "$POLICY" "$POLICY_NEW"
        mv -f "$POLICY_NEW" "$POLICY_SAVED"
    fi
    cat >"$POLICY_NEW" <<END
#!/bin/sh
$POLICY_MARK
policy=$(quoted "$POLICY") saved=$(quoted "$POLICY_SAVED") lock=$(quoted "$(readlink -f "$0")")
[ ! -e "\$lock" ] || flock -n -E 101 "\$lock" true
if [ \$? -eq 101 ]; then
    exit 101
elif [ -e "\$saved" ] || [ -L "\$saved" ]; then
    mv -f "\$saved" "\$policy"
    exec "\$policy" "\$@"
else
    rm -f "\$policy"
    exit 0
fi
END
    chmod 755 "$POLICY_NEW"
    mv -f "$POLICY_NEW" "$POLICY"
}

forbid_main_cluster() {
    mkdir -p "${NO_CLUSTER%/*}"
    echo "create_main_cluster = false" >"$NO_CLUSTER"
}

disable() {
    case $1 in
    *.service | *.socket)
        systemctl disable "$1" >/dev/null 2>&1 ||
            DPKG_MAINTSCRIPT_PACKAGE=pubsubcache deb-systemd-helper disable "$1" >/dev/null 2>&1 || true
        ;;
    *)
        update-rc.d "$1" disable >/dev/null 2>&1 || true
        ;;
    esac
}

disable_new_services() {
    known_services | while read -r service; do
        case " $services_before " in
        *" $service "*) ;;
        *) disable "$service" ;;
        esac
    done
}

# Runs apt-get, and prints its output only if it fails.
apt() {
    if words=$(DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" </dev/null 2>&1); then
        return 0
    fi
    say "$words"
    return 1
}

tidy_up() {
    trap '' HUP INT QUIT TERM
    disable_new_services
    restore
}

# Installs packages. Updates the package lists only if they lack a package or are too old.
install() {
    # apt-get refuses to work after an interrupted installation.
    [ -z "$(dpkg --audit)" ] || dpkg --configure -a </dev/null >&2 || true
    # shellcheck disable=SC2086 # names of packages, one word each
    if apt-cache show $1 >/dev/null 2>&1 && apt install -y --no-install-recommends $1; then
        return 0
    fi
    apt update
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $1
}

case $PURPOSE in
python | run | test) ;;
*)
    say "Usage: packages.sh python|run|test"
    exit 1
    ;;
esac

packages=$(missing | tr '\n' ' ')
packages=${packages% }
if [ -z "$packages" ]; then
    if [ "$(id -u)" -eq 0 ] && is_left_over; then
        lock
        restore
    fi
    exit 0
fi

if ! has apt-get; then
    say "Please install the programs of these Debian packages and try again: $packages."
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if has sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        exec sudo -- env "PYTHON=$PYTHON" sh "$0" "$PURPOSE"
    fi
    say "Please run \`apt-get install $packages\` as root and try again."
    exit 1
fi

say "Installing $packages ..."
lock
restore
services_before=$(known_services | tr '\n' ' ')
trap tidy_up EXIT
trap 'exit 130' INT
trap 'exit 131' QUIT
trap 'exit 129' HUP
trap 'exit 143' TERM
forbid_services
has_postgresql || forbid_main_cluster
status=0
install "$packages" || status=$?

packages=$(missing | tr '\n' ' ')
packages=${packages% }
if [ -n "$packages" ]; then
    say "Could not install $packages: see the output of apt-get above."
    exit 1
fi
[ "$status" -eq 0 ] || say "apt-get reported errors, but all required programs are installed."
