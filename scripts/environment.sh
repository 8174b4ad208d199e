# Sourced by the other scripts: finds a Python, and keeps a virtual environment in .venv. Needs only
# what a bare Debian machine has.

root=$(cd "$(dirname "$0")/.." && pwd)
environment=$root/.venv
cache=${PYKEXEC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pykexec}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { say "$*"; exit 1; }

# try_install PACKAGE...: installs Debian packages. Fails with a message if that requires root.
try_install() {
    if [ "$(id -u)" != 0 ]; then
        say "not installed: $* (as root: apt-get install $*)"
        return 1
    fi
    say "installing $*"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    for _ in 1 2 3; do
        apt-get -qq -y -o DPkg::Lock::Timeout=600 install --no-install-recommends "$@" </dev/null >/dev/null && return 0
        apt-get -qq update </dev/null >/dev/null || sleep 5
    done
    say "cannot install $*"
    return 1
}

# find_python: sets $python to a Python 3.11 or later that can make an environment.
find_python() {
    usable='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
    for _ in 1 2; do
        for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
            "$python" -c "$usable" 2>/dev/null && return 0
        done
        try_install python3-venv || break
    done
    fail "no python3 of 3.11 or later with the modules venv and ensurepip"
}

# need_environment [EXTRA]: makes $environment with pykexec (editable), and with an extra of
# setup.cfg if one is named, and adds it to PATH. Makes it again when setup.cfg changes.
need_environment() {
    mkdir -p "$environment" 2>/dev/null || fail "cannot write $environment"
    exec 9>"$environment/.lock"
    if command -v flock >/dev/null; then flock 9; fi
    wanted=$(cat "$root/setup.cfg" "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum)
    if [ "$(cat "$environment/.made${1:+-$1}" 2>/dev/null)" != "$wanted" ]; then
        find_python
        say "setting up ${environment#"$PWD/"} (once)"
        [ -x "$environment/bin/pip" ] || "$python" -m venv "$environment" || fail "no environment"
        for attempt in 1 2 3 4 5 6 7 8; do
            "$environment/bin/pip" install -qq --retries 5 --timeout 30 \
                -c "$root/scripts/constraints.txt" --config-settings editable_mode=compat \
                -e "$root${1:+[$1]}" </dev/null && break
            [ "$attempt" = 8 ] && fail "cannot install what pykexec needs from PyPI"
            sleep $((attempt * 10))
        done
        echo "$wanted" >"$environment/.made${1:+-$1}"
    fi
    exec 9>&-
    PATH=$environment/bin:$PATH
    export PATH
}

# debian_kernel: prints the path of Debian's cloud kernel, downloaded into the cache once.
debian_kernel() {
    PYTHONPATH=$root python - <<'END'
from tests.vm import debian, supplies
try:
    print(supplies.kernel(supplies.DEFAULT_SERIES).image)
except debian.Unavailable as unavailable:
    raise SystemExit(unavailable.reason) from None
END
}
