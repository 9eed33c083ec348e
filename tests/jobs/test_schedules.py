"""The examples of schedules must not name what does not exist, and one is run as it stands."""

import datetime
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType, SimpleNamespace

import botocore.session
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from botocore.validate import ParamValidator

from vea.main import build_app

FOLDER = Path(str(resources.files("jobs"))) / "schedules"
MODEL = "/opt/vea/vea-lite-3.1.mar"
CRON_JOBS = ["kubernetes-cronjob.yaml", "kubernetes-indexed-cronjob.yaml"]


def crontab():
    """The variables of the crontab, and the command of its only line of work."""
    lines = (FOLDER / "crontab").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]+=", line))
    (work,) = [line for line in lines if not re.match(r"[A-Z]+=", line)]
    *times, command = work.split(maxsplit=5)
    assert times == ["30", "2", "*", "*", "*"]
    return variables, command


def unit(name):
    """Values of a unit of systemd by key; a key may have many."""
    values = {}
    for line in (FOLDER / name).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def cron_job(name):
    return yaml.safe_load((FOLDER / name).read_text())


def container(name):
    (found,) = cron_job(name)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return found


def batch(name):
    return json.loads((FOLDER / name).read_text())


def airflow_tasks(monkeypatch):
    """Run the DAG with a stand-in for Airflow, which notes what it is given."""
    tasks = {}

    class Operator(SimpleNamespace):
        def __init__(self, **values):
            super().__init__(**values, after=[])
            tasks[self.task_id] = self

        def __rshift__(self, other):
            other.after.append(self.task_id)

    class Dag(SimpleNamespace):
        def __enter__(self):
            tasks["dag"] = self

        def __exit__(self, *_):
            pass

    names = {
        "airflow.sdk": {"DAG": Dag},
        "airflow.providers.standard.operators.bash": {"BashOperator": Operator},
        "airflow.timetables.interval": {
            "CronDataIntervalTimetable": lambda cron, timezone: (cron, timezone)
        },
    }
    for name, attributes in names.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    runpy.run_path(str(FOLDER / "airflow_dag.py"))
    return tasks


def in_shell(text):
    """The `vea` commands in a line of shell, with its variables in their places."""
    variables, _ = crontab()
    words = list(shlex.shlex(text, posix=True, punctuation_chars=True))
    words = [re.sub(r"\$\{?(\w+)\}?", lambda m: variables[m[1]], word) for word in words]
    ends = [i for i, word in enumerate(words) if word in ("&&", "||", ">>", ";")] + [len(words)]
    starts = [i for i, word in enumerate(words) if word == "vea"]
    return [words[start + 1 : min(end for end in ends if end > start)] for start in starts]


def commands(monkeypatch):
    """What follows `vea` wherever an example calls it, by example."""
    _, cron_command = crontab()
    service = unit("vea-score.service")
    started = [line.lstrip("-") for key in ("ExecStart", "ExecStartPost") for line in service[key]]
    tasks = airflow_tasks(monkeypatch)
    readme = (FOLDER / "README.md").read_text().replace("\\\n", " ")
    definition = batch("aws-batch-job-definition.json")["containerProperties"]["command"]
    date = batch("aws-batch-array.json")["parameters"]["date"]
    return {
        "crontab": in_shell(cron_command),
        "vea-score.service": [shlex.split(line.replace("${MODEL}", MODEL))[1:] for line in started],
        **{name: [container(name)["args"]] for name in CRON_JOBS},
        "aws-batch": [[w.replace("Ref::date", date) for w in definition[1:]]],
        "airflow_dag.py": [
            words
            for task in ("score", "report")
            for words in in_shell(
                tasks[task].bash_command.replace("{{ data_interval_start | ds }}", "2026-11-23")
            )
        ],
        "README.md": in_shell(" ".join(re.findall(r"^    (vea .*)$", readme, re.MULTILINE))),
    }


def parse(words):
    """What the real program makes of a command; raises if it does not know an option."""
    program = typer.main.get_command(build_app())
    name, *rest = words
    return name, program.commands[name].make_context(name, list(rest)).params


def test_every_command_of_every_example_is_one_that_vea_understands(monkeypatch):
    found = commands(monkeypatch)
    assert {name: len(listed) for name, listed in found.items()} == {
        "crontab": 2,
        "vea-score.service": 2,
        **dict.fromkeys(CRON_JOBS, 1),
        "aws-batch": 1,
        "airflow_dag.py": 2,
        "README.md": 1,
    }
    for listed in found.values():
        for words in listed:
            name, values = parse(words)
            assert str(values["model"]) == MODEL
            assert values["out"] == (
                "s3://results/emotions/dt={date}/model_version={model_version}"
            )
            if name != "report":
                assert values["image_list"] == "s3://lists/{date}.parquet"
            if name != "backfill":
                assert values["date"] in ("yesterday", "2026-11-23")


def test_a_command_with_an_option_that_does_not_exist_would_be_noticed():
    with pytest.raises(Exception, match="--no-such-option"):
        parse(["score", "list.txt", "--out=out", "--model=m.mar", "--no-such-option"])


def test_all_examples_are_tested_and_explained():
    readme = (FOLDER / "README.md").read_text()
    names = {path.name for path in FOLDER.iterdir() if path.is_file()} - {"README.md"}
    assert names == {
        "crontab",
        "vea-score.service",
        "vea-score.timer",
        *CRON_JOBS,
        "aws-batch-job-definition.json",
        "aws-batch-array.json",
        "airflow_dag.py",
    }
    assert all(f"`{name}`" in readme for name in names)


@pytest.mark.integration
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_takes_the_units(tmp_path):
    program = tmp_path / "vea"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in ("vea-score.service", "vea-score.timer"):
        text = (FOLDER / name).read_text().replace("/opt/vea/bin/vea", str(program))
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in ("vea-score.service", "vea-score.timer")]
    ended = subprocess.run(
        ["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False
    )
    ours = [line for line in ended.stderr.splitlines() if "vea-score" in line]
    assert (ended.returncode, ours) == (0, [])
    (calendar,) = unit("vea-score.timer")["OnCalendar"]
    elapses = subprocess.run(
        ["systemd-analyze", "calendar", calendar], capture_output=True, text=True, check=True
    )
    assert "02:30:00 UTC" in elapses.stdout
    # 10 is a service that may do anything, 0 one that may do nothing.
    ended = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", files[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-500:]


def seconds(text):
    """A duration as systemd and `timeout` write it."""
    number, unit_name = re.fullmatch(r"([0-9]+)(s|min|h)?", text).groups()
    return int(number) * {"s": 1, "min": 60, "h": 3600, None: 1}[unit_name]


def test_the_grace_ends_before_the_kill():
    (start,) = unit("vea-score.service")["ExecStart"]
    _, values = parse(shlex.split(start)[1:])
    (stop,) = unit("vea-score.service")["TimeoutStopSec"]
    assert values["grace"] < seconds(stop)
    for name in CRON_JOBS:
        pod = cron_job(name)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        _, values = parse(container(name)["args"])
        assert values["grace"] < pod["terminationGracePeriodSeconds"]


def test_a_late_night_ends_before_the_next_day():
    # From half past two, and whatever the scheduler may wait.
    day = 24 * 3600 - 2.5 * 3600
    (limit,) = unit("vea-score.service")["TimeoutStartSec"]
    (delay,) = unit("vea-score.timer")["RandomizedDelaySec"]
    assert seconds(limit) + seconds(delay) < day
    for name in CRON_JOBS:
        spec = cron_job(name)["spec"]
        longest = spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]
        assert longest + spec["startingDeadlineSeconds"] < day
    limit = re.search(r"timeout --kill-after=60s (\S+) vea", crontab()[1])[1]
    assert seconds(limit) < day


@pytest.mark.parametrize("name", CRON_JOBS)
def test_pods_may_do_little_and_do_not_overlap(name):
    spec = cron_job(name)["spec"]
    job = spec["jobTemplate"]["spec"]
    pod, score = job["template"]["spec"], container(name)
    assert (cron_job(name)["apiVersion"], cron_job(name)["kind"]) == ("batch/v1", "CronJob")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert score["securityContext"]["readOnlyRootFilesystem"]
    assert not score["securityContext"]["allowPrivilegeEscalation"]
    assert score["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert score["envFrom"] == [{"secretRef": {"name": "vea-s3"}}]
    assert {mount["name"] for mount in score["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    _, values = parse(score["args"])
    assert str(values["workers"]) == score["resources"]["limits"]["cpu"]
    rule = job["podFailurePolicy"]["rules"][0]
    assert rule["onExitCodes"]["containerName"] == score["name"]
    assert rule["onExitCodes"]["values"] == [2, 3]


def test_pods_that_divide_a_run_have_all_its_shards():
    job = cron_job("kubernetes-indexed-cronjob.yaml")["spec"]["jobTemplate"]["spec"]
    _, values = parse(container("kubernetes-indexed-cronjob.yaml")["args"])
    assert job["completionMode"] == "Indexed"
    assert values["shard"] == f"$(JOB_COMPLETION_INDEX)/{job['completions']}"


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("aws-batch-job-definition.json", "RegisterJobDefinition"),
        ("aws-batch-array.json", "SubmitJob"),
    ],
)
def test_aws_takes_the_requests(name, operation):
    model = botocore.session.get_session().get_service_model("batch")
    report = ParamValidator().validate(batch(name), model.operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()
    known = set(model.operation_model(operation).input_shape.members)
    assert set(batch(name)) <= known


def test_airflow_scores_the_day_that_is_over_and_then_reports(monkeypatch):
    # With a stand-in for Airflow: that the real one takes the DAG is not tested.
    tasks = airflow_tasks(monkeypatch)
    assert tasks["dag"].schedule == ("30 2 * * *", "UTC")
    assert not tasks["dag"].catchup
    assert tasks["report"].after == ["score"]
    assert tasks["score"].execution_timeout < datetime.timedelta(hours=21.5)
    assert "--date {{ data_interval_start | ds }} " in tasks["score"].bash_command


@pytest.mark.integration
@pytest.mark.skipif(not shutil.which("flock"), reason="there is no flock")
def test_the_line_of_the_crontab_scores_and_reports_as_it_stands(tmp_path, jpeg, tiny_model):
    # In UTC, as the crontab says.
    yesterday = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)
    (tmp_path / "lists").mkdir()
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    listed = pa.table({"image": [str(tmp_path / "a.jpg")], "sku": ["007"]})
    pq.write_table(listed, tmp_path / "lists" / f"{yesterday}.parquet")
    program = tmp_path / "vea"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vea.main "$@"\n')
    program.chmod(0o755)
    (tmp_path / "environment").write_text("OMP_NUM_THREADS=1\n")

    def here(text):
        places = {
            "s3://": f"{tmp_path}/",
            MODEL: str(tiny_model),
            "/opt/vea/bin": str(tmp_path),
            "/etc/vea/": f"{tmp_path}/",
            "/run/lock/": f"{tmp_path}/",
            "/var/lib/vea/": f"{tmp_path}/",
            "/var/log/vea/": f"{tmp_path}/",
        }
        for there, place in places.items():
            text = text.replace(there, place)
        return text

    variables, command = crontab()
    assert "%" not in command
    environment = {"HOME": os.environ["HOME"], **{k: here(v) for k, v in variables.items()}}
    ended = subprocess.run(
        ["/bin/sh", "-c", here(command)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    night = tmp_path / "results" / "emotions" / f"dt={yesterday}" / "model_version=0.1"
    assert pq.ParquetFile(night / "images-00000.parquet").read()["sku"].to_pylist() == ["007"]
    page = (tmp_path / "results" / "reports" / f"{yesterday}.html").read_text()
    assert f"Emotions of {yesterday}" in page
    assert "vea_score_succeeded 1.0" in (tmp_path / "vea.prom").read_text()
    # When it fails, the last line of the log is what cron sends.
    (tmp_path / "lists" / f"{yesterday}.parquet").unlink()
    ended = subprocess.run(
        ["/bin/sh", "-c", here(command)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.startswith("vea: there is no list of images at")
    assert len(ended.stdout.splitlines()) == 1
