#!/usr/bin/env bash
# Branch coverage of the package in all processes: tests, arbiters, molds, workers.
#
#   tests/coverage.sh unit   the quick tests, which start no server, and the gate for what they run of worker/
#   tests/coverage.sh        after that, live servers with the compiled core and in plain Python, and the gate for the whole
#
# A measured server is slower, and a few tests are about time: tests that fail here are named, and judged by the other
# commands. The gates are in setup.cfg.
set -euo pipefail
cd "$(dirname "$0")/.."

BIN="${BIN:-.venv/bin}"

data="$(mktemp -d)"
trap 'rm -rf "$data"' EXIT
# Workers that have dropped their privileges write here, too.
chmod 1777 "$data"
export COVERAGE_FILE="$data/coverage"

measure() { # ARGUMENTS of pytest
    "$BIN/coverage" run -m pytest -q --dist loadfile "$@" || echo "(not all of them passed while they were measured)"
}

# A process that a test kills while it writes its figures, or that may write only so much, leaves a database that is not
# whole: how many there were is said ("errored"), and they are left out. One that is killed before leaves nothing.
combine() {
    "$BIN/coverage" combine 2>&1 | tail -n 1
    rm -f "$data"/coverage.*
}

check() { # GATE, ARGUMENTS of a report: fails below the gate
    local gate
    gate="$("$BIN/python" -c 'import configparser, sys
found = configparser.ConfigParser(interpolation=None)
found.read("setup.cfg")
print(found["coverage-gates"][sys.argv[1]])' "$1")"
    "$BIN/coverage" report --format=total --precision=1 --fail-under="$gate" "${@:2}" >/dev/null ||
        { echo "coverage is below the gate of $gate % ($1 in setup.cfg)"; exit 2; }
    echo "coverage is not below the gate of $gate % ($1)"
}

measure -n 2 -m 'not live and not exhaustive'
combine
"$BIN/coverage" report --sort=cover --skip-covered --show-missing --include='wsgicluster/worker/*'
check unit-worker --include='wsgicluster/worker/*'
if [ "${1:-}" = unit ]; then exit; fi
mv "$COVERAGE_FILE" "$COVERAGE_FILE.quick"

measure -n 3 -m live
WSGICLUSTER_PURE=1 measure -n 3 tests/live/test_http.py tests/live/test_wsgi.py tests/live/test_streams.py \
    tests/live/test_hostile_http.py tests/live/test_hostile_apps.py
combine
"$BIN/coverage" report --sort=cover --skip-covered --show-missing
check whole
