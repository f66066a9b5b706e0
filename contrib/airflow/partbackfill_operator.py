"""An Airflow operator that runs a backfill of partbackfill. Put it into the plugins folder, beside partbackfill_client.py of
contrib/schedulers.

    BackfillOperator(
        task_id="recompute",
        target="events",
        source="recompute_source",
        label="recompute {{ ds }}",
        arguments={"range_start": "{{ ds }}", "range_end": "{{ next_ds }}", "workers": 2},
        postgres_conn_id="warehouse",
    )

The label stands for the piece of work: when Airflow tries the task again, it finds its job, or tries what has failed of it again.
"""
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.models import BaseOperator
from airflow.providers.postgres.hooks.postgres import PostgresHook
from partbackfill_client import Backfill, Server


class BackfillOperator(BaseOperator):
    """Succeeds when the job is done, or ready with publish=manual. Partitions that failed fail the task, which may be tried again;
    a job that a person has paused or canceled fails it for good. What a killed task does to its job: on_kill_do."""

    template_fields = ("target", "source", "label", "arguments")

    def __init__(self, *, target, source, label, arguments=None, postgres_conn_id="postgres_default", interval=10,
                 on_kill_do="pause", **kwargs):
        super().__init__(**kwargs)
        if on_kill_do not in ("leave", "pause", "cancel"):
            raise ValueError(f'on_kill_do is "{on_kill_do}", not leave, pause or cancel')
        self.target = target
        self.source = source
        self.label = label
        self.arguments = arguments or {}
        self.postgres_conn_id = postgres_conn_id
        self.interval = interval
        self.on_kill_do = on_kill_do
        self.backfill = None

    def connect(self):
        return PostgresHook(postgres_conn_id=self.postgres_conn_id).get_conn()

    def execute(self, context):
        self.backfill = Backfill(Server(self.connect), self.label)
        how = self.backfill.begin(self.target, self.source, {name: str(value) for name, value in self.arguments.items()})
        self.log.info("job %s: %s, label %s", self.backfill.job, how, self.label)
        state = self.backfill.wait(self.log.info, self.interval)
        if state == "failed":
            raise AirflowException(f"job {self.backfill.job} failed: " + "; ".join(self.backfill.failed()))
        if state not in ("done", "ready"):
            raise AirflowFailException(f"job {self.backfill.job} is {state}")
        return self.backfill.job

    def on_kill(self):
        if self.backfill is not None and self.backfill.job is not None:
            other = Backfill(Server(self.connect), self.label)  # a statement may be on its way
            other.job = self.backfill.job
            other.stop(self.on_kill_do)
