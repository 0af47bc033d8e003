# shellcheck shell=bash
# What the scripts in this folder share; they source it. It leaves them in the
# root of the checkout.

set -euo pipefail
shopt -s nullglob
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Settings of the caller's shell that would lead make or libpq elsewhere;
# PG_CONFIG is meant for us.
unset MAKEFLAGS MAKELEVEL MFLAGS
for name in "${!PG@}"; do
    [ "$name" = PG_CONFIG ] || unset "$name"
done

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# PostgreSQL refuses to run as root: servers, and tests that start some, then
# run as the package's own user. as_server goes before a command.
# shellcheck disable=SC2034 # the scripts use it
if [ "$(id -u)" = 0 ]; then
    server_user=postgres
    as_server=(setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/nonexistent)
else
    server_user=$(id -un)
    as_server=()
fi

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "need root or sudo for: $*"
    fi
}

# Makes a directory for the server user, whatever the umask; prints its path.
# In /tmp, because the path of a Unix socket must be short.
make_work_dir() {
    local dir
    dir=$(mktemp -d "/tmp/reputation-$1.XXXXXX")
    chown "$server_user" "$dir"
    echo "$dir"
}

# Builds in a directory, with more arguments for make, and installs.
build_and_install() {
    make -s -C "$1" -j "$(nproc)" "${@:2}" all &&
        as_root make -s -C "$1" "${@:2}" install
}
