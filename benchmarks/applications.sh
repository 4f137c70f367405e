#!/usr/bin/env bash
# Real applications on this server and on Gunicorn, in all kinds of workers, with the clients that people use:
#
#     benchmarks/applications.sh [APPLICATION...]
#
# Prints one table, and what differs. Each application is installed in an environment of its own below
# ~/.cache/wsgicluster-applications; the first run takes some minutes. Wants the programs git, curl, litmus, chromium
# and chromedriver (Debian: git curl litmus chromium-driver); what needs a missing one is left out and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON="${PYTHON:-python3}"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/wsgicluster-applications"
mkdir -p "$CACHE"

environment() { # NAME PACKAGE...
    local name="$1"
    shift
    if [ ! -e "$CACHE/$name.installed" ]; then
        echo "installing $name" >&2
        rm -rf "${CACHE:?}/$name"
        "$PYTHON" -m venv "$CACHE/$name"
        "$CACHE/$name/bin/pip" install -q gunicorn gevent packaging psutil setproctitle Cython setuptools "$@"
        touch "$CACHE/$name.installed"
    fi
}

environment httpbin httpbin 'werkzeug<3' 'flask<3'
environment dash dash
environment wsgidav wsgidav
environment pypiserver pypiserver
environment hgweb mercurial
environment dulwich dulwich
environment wagtail wagtail
environment zope zope
environment clients requests pytest pytest-httpbin pytest-mock pytest-timeout trustme PySocks twine build mercurial selenium
if [ ! -d "$CACHE/requests" ]; then
    # Its tests are in the sdist only.
    "$CACHE/clients/bin/pip" download -q --no-deps --no-binary requests -d "$CACHE/sdist" requests
    mkdir -p "$CACHE/requests"
    tar -xzf "$CACHE"/sdist/requests-*.tar.gz -C "$CACHE/requests" --strip-components 1
fi
# The compiled modules of this checkout, for the interpreter that all the environments have.
"$CACHE/httpbin/bin/python" setup.py -q build_ext --inplace

exec "$CACHE/clients/bin/python" benchmarks/real/run.py "$CACHE" "$@"
