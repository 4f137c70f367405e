"""The files of ``examples`` for deployments say nothing that the server does not know."""

import configparser
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, StartServer
from wsgicluster.settings import SETTINGS, Settings, load
from wsgicluster.settings.declaration import ENVIRONMENT_PREFIX

EXAMPLES = ROOT / "examples"
DEFAULTS = Settings()


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and arguments of each step of a Dockerfile."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [
        (name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines.splitlines() if line)
    ]


DOCKERFILE = instructions((EXAMPLES / "docker/Dockerfile").read_text("utf-8"))


def arguments_of(wanted: str) -> list[str]:
    return [arguments for name, arguments in DOCKERFILE if name == wanted]


def settings_of_the_image() -> dict[str, str]:
    """Our variables in the image's environment."""
    pairs = [word.partition("=") for arguments in arguments_of("ENV") for word in shlex.split(arguments)]
    return {name: value for name, _, value in pairs if name.startswith(ENVIRONMENT_PREFIX)}


def known(given: dict[str, str], folder: pathlib.Path) -> Settings:
    """The settings that variables make; none may be unknown."""
    loaded = load(["app"] if f"{ENVIRONMENT_PREFIX}WSGI_APP" not in given else [], given, str(folder))
    assert loaded.remarks == ()
    return loaded.settings


def test_image_is_no_root_no_shell_and_stopped_gracefully(tmp_path: pathlib.Path) -> None:
    assert json.loads(arguments_of("ENTRYPOINT")[0]) == ["wsgicluster"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", arguments_of("USER")[0])
    assert arguments_of("STOPSIGNAL") == ["SIGTERM"]
    assert len(arguments_of("FROM")) == 2
    settings = known(settings_of_the_image(), tmp_path)
    assert settings.wsgi_app == "flask_app:app"
    assert f"EXPOSE {getattr(settings.bind[0], 'port', 0)}" in [" ".join(step) for step in DOCKERFILE]


def test_what_is_copied_into_the_image_is_there() -> None:
    sent = (EXAMPLES / "docker/Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for arguments in arguments_of("COPY"):
        for path in arguments.split()[:-1]:
            name = path.removeprefix("./")
            assert (ROOT / name).exists(), name
            assert f"!{name}" in sent


def test_the_image_is_built_from_what_is_copied(tmp_path: pathlib.Path) -> None:
    for arguments in arguments_of("COPY"):
        *sources, target = arguments.split()
        if not any(source.startswith("examples/") for source in sources):
            for source in sources:
                copied = tmp_path / target / pathlib.Path(source).name
                if (ROOT / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.c")
                    shutil.copytree(ROOT / source, tmp_path / target, ignore=ignored)
                else:
                    copied.parent.mkdir(exist_ok=True)
                    shutil.copy(ROOT / source, copied)
    # To compile takes a minute, and is no different here: as where there is no Cython.
    (tmp_path / "Cython").mkdir()
    (tmp_path / "Cython/__init__.py").write_text("raise ImportError\n")
    build = [sys.executable, "setup.py", "-q", "build", "--build-lib", "lib"]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run(build, cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=60)
    for name in ("lib/wsgicluster/cli.py", "lib/wsgicluster/admin/dashboard.html", "build/man/wsgicluster.1"):
        assert (tmp_path / name).exists(), name


def test_commands_of_the_image() -> None:
    """The habits that hadolint looks for, as far as they apply."""
    for command in arguments_of("RUN"):
        for pip in re.findall(r"pip (?:install|wheel)[^&]*", command):
            assert "--no-cache-dir" in pip
        assert "apt-get" not in command or "--no-install-recommends" in command
    assert all(re.fullmatch(r"\S+:\d[\w.-]*( AS \w+)?", image) for image in arguments_of("FROM"))
    assert all(path.startswith("/") for path in arguments_of("WORKDIR"))
    assert arguments_of("ADD") == []
    order = [name for name, _ in DOCKERFILE]
    assert order.index("USER") > len(order) - order[::-1].index("RUN") - 1, "nothing is installed by that user"
    modules = re.findall(r"wsgicluster(?:\.\w+)+", " ".join(arguments_of("RUN")))
    assert len(modules) == 3
    for module in modules:
        assert (ROOT / f"{module.replace('.', '/')}.pyx").exists()


@pytest.mark.live
def test_health_check(server: StartServer) -> None:
    live = server("--chdir", str(EXAMPLES), environ=settings_of_the_image())
    options, _, command = arguments_of("HEALTHCHECK")[0].partition(" CMD ")
    assert "--start-period" in options
    program, *arguments = json.loads(command)
    assert program == "wsgiclusterctl"
    live.wait_log("Started: ")

    def check() -> int:
        # In a container there is no other server; here there may be.
        here = [sys.executable, "-m", "wsgicluster.ctl", "-n", str(live.pid), *arguments]
        return subprocess.run(here, cwd=ROOT, capture_output=True, timeout=30, check=False).returncode

    assert check() == 0
    assert live.stop() == 0
    assert check() == 3


def test_compose_and_deployment_name_known_settings(tmp_path: pathlib.Path) -> None:
    compose = (EXAMPLES / "docker/compose.yaml").read_text("utf-8")
    known(dict(re.findall(r"^ +(WSGICLUSTER_\w+): (\S+)$", compose, re.MULTILINE)), tmp_path)
    period = re.search(r"stop_grace_period: (\d+)s", compose)
    assert period
    assert int(period[1]) > DEFAULTS.graceful_timeout

    deployment = (EXAMPLES / "kubernetes/base/deployment.yaml").read_text("utf-8")
    given = dict(re.findall(r'- name: (WSGICLUSTER_\w+)\n +value: "?([^"\n]+)"?$', deployment, re.MULTILINE))
    assert len(given) == deployment.count("WSGICLUSTER_")
    settings = known(given, tmp_path)
    assert (settings.workers, settings.worker_class) == (2, "gthread")
    assert f"runAsUser: {arguments_of('USER')[0].partition(':')[0]}" in deployment


def filled_in(text: str) -> str:
    """Names in the place of what an orchestrator fills in."""
    return re.sub(r"\$\{\w+\}|\{\{[.\w]+\}\}", "a-name", text)


def test_nomad_names_known_settings(tmp_path: pathlib.Path) -> None:
    job = filled_in((EXAMPLES / "nomad/shop.nomad.hcl").read_text("utf-8"))
    settings = known(dict(re.findall(r'^ +(WSGICLUSTER_\w+) += "(.+)"$', job, re.MULTILINE)), tmp_path)
    kills_after = re.search(r'kill_timeout = "(\d+)s"', job)
    assert kills_after
    assert int(kills_after[1]) > settings.drain_delay + settings.graceful_timeout
    assert f"to = {getattr(settings.admin, 'port', 0)} " in job
    assert job.count("{") == job.count("}")


def test_swarm_names_known_settings(tmp_path: pathlib.Path) -> None:
    path = EXAMPLES / "docker" / "stack.yaml"
    stack = filled_in(path.read_text("utf-8"))
    settings = known(dict(re.findall(r'^ +(WSGICLUSTER_\w+): "?([^"\n]+)"?$', stack, re.MULTILINE)), tmp_path)
    period = re.search(r"stop_grace_period: (\d+)s", stack)
    assert period
    assert int(period[1]) > settings.drain_delay + settings.graceful_timeout
    assert f":{getattr(settings.admin, 'port', 0)}/livez" in stack
    docker = shutil.which("docker")
    if docker is not None:  # it reads the file without a daemon
        command = [docker, "stack", "config", "--compose-file", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr


def test_template_units_of_systemd(tmp_path: pathlib.Path) -> None:
    units = EXAMPLES / "systemd"
    service = (units / "wsgicluster@.service").read_text("utf-8")
    found = re.search(r"^ExecStart=(\S+)/wsgicluster (.+)$", service, re.MULTILINE)
    assert found
    assert load(["app", *shlex.split(found[2].replace("%i", "shop"))], {}, str(tmp_path)).settings.proc_name == "shop"
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    # The program that it names is not on this machine.
    (tmp_path / "wsgicluster@shop.service").write_text(service.replace(f"{found[1]}/wsgicluster", sys.executable))
    shutil.copy(units / "wsgicluster@.socket", tmp_path / "wsgicluster@shop.socket")
    shutil.copy(units / "wsgicluster.target", tmp_path)
    verify = [analyze, "verify", *map(str, tmp_path.glob("wsgicluster*.*"))]
    shown = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    # It may also have something to say about units of this machine.
    assert (shown.returncode, "wsgicluster" in shown.stdout + shown.stderr) == (0, False), shown.stderr


def test_supervisord(tmp_path: pathlib.Path) -> None:
    config = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    config.read(EXAMPLES / "supervisor/supervisord.conf", "utf-8")
    program = config["program:shop"]
    path, *arguments = shlex.split(program["command"])
    assert path.endswith("/bin/wsgicluster")
    settings = load(arguments, {}, str(tmp_path)).settings
    assert not settings.daemon
    assert program["stopsignal"] == "TERM"
    assert int(program["stopwaitsecs"]) > settings.graceful_timeout
    assert config.getint("supervisord", "minfds") > settings.worker_connections
    folder = program["directory"].replace("%(here)s", str(EXAMPLES / "supervisor"))
    module = settings.wsgi_app.partition(":")[0]
    assert (pathlib.Path(folder) / f"{module}.py").exists()


@pytest.mark.parametrize("page", ["docker", "supervisord"])
def test_pages_name_known_variables(page: str) -> None:
    text = (ROOT / "docs/howto" / f"{page}.rst").read_text("utf-8")
    assert {name.lower() for name in re.findall(r"WSGICLUSTER_([A-Z_]+)", text)} <= SETTINGS.keys()
