#!/bin/sh
# Installs the Debian packages of the programs that are missing, and nothing when none is:
#   packages.sh python   what the virtual environment needs
#   packages.sh run      what `make run` needs
#   packages.sh test     what `make test` needs
# No service is started, none is left enabled that was not there before, and none that was there is touched.
set -eu

PURPOSE=${1:-}
PYTHON=${PYTHON:-python3}
PATH=$PATH:/usr/sbin:/sbin
ROOT=${DPKG_ROOT:-} # as for the scripts of packages; tests have a root of their own
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

# Whether the first of its arguments, a pattern that the shell has expanded, is there.
found() {
    [ -e "$1" ]
}

has_postgresql() {
    has postgres || found /usr/lib/postgresql/*/bin/postgres
}

# Prosody's way to SQLite, without which a node of a thousand items takes minutes to fill.
has_lua_sqlite() {
    found /usr/lib/*/lua/5.*/dbd/sqlite3.so || found /usr/lib/lua/5.*/dbd/sqlite3.so
}

has_ejabberd() {
    has erl && { found /usr/lib/*/ejabberd-*/ebin || found /usr/lib/erlang/lib/ejabberd-*/ebin; }
}

# The library that gives a process a clock of its own.
has_libfaketime() {
    found /usr/lib/*/faketime/libfaketimeMT.so.1 || found /usr/lib/faketime/libfaketimeMT.so.1
}

# The names of the packages whose programs are missing.
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

# Services that the machine knows, one per line.
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

# Whether an earlier run was killed; one that goes on has the lock.
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

# A word of a shell's command line.
quoted() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

# The policy forbids services while the lock is held: by this script, or by apt-get if only the script was killed.
# After that it removes itself, and what was there before decides.
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

# What apt-get says is of interest only when it fails.
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

# The lists are fetched only when they do not have what is wanted, or are too old to be of use.
install() {
    # What an interrupted installation left half done keeps apt-get from any other.
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
    say "Please install what Debian's packages $packages contain, and try again."
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if has sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        exec sudo -- env "PYTHON=$PYTHON" sh "$0" "$PURPOSE"
    fi
    say "Please run \`apt-get install $packages\` as root, and try again."
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
    say "Could not install $packages: see apt-get's words above."
    exit 1
fi
[ "$status" -eq 0 ] || say "apt-get complained, but every program that is needed is there."
