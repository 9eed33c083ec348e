"""Every night: score the list of the day that is over, then report on it.

For Airflow 3, in its folder of DAGs. The tasks run `vea` where the workers of Airflow run; the day
is Airflow's, so a night that is cleared, or filled in by `airflow backfill`, scores its own list.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

MODEL = "/opt/vea/vea-lite-3.1.mar"
OUT = "s3://results/emotions/dt={date}/model_version={model_version}"
DAY = "{{ data_interval_start | ds }}"

with DAG(
    dag_id="vea_score",
    # From half past two to half past two: the interval starts on the day that is scored.
    schedule=CronDataIntervalTimetable("30 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 11, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
):
    score = BashOperator(
        task_id="score",
        bash_command=(
            f'exec vea score "s3://lists/{{date}}.parquet" --out "{OUT}" --model {MODEL} '
            f"--date {DAY} --max-error-rate 0.05"
        ),
        execution_timeout=timedelta(hours=20),
    )
    report = BashOperator(
        task_id="report",
        bash_command=(
            f'exec vea report "{OUT}" --date {DAY} --model {MODEL} '
            '--html "s3://results/reports/{date}.html" --fail-on-drift'
        ),
        execution_timeout=timedelta(hours=1),
        retries=0,
    )
    score >> report
