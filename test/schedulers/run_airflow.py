"""Runs an operator of contrib/airflow with stand-ins for Airflow's classes: the text of a DAG on standard input makes it, under the
name that is the first argument; templates are rendered for the day that is the second. SIGTERM kills the task as Airflow does."""
import datetime
import logging
import signal
import sys
import types

import jinja2
import psycopg


class AirflowException(Exception):
    pass


class AirflowFailException(AirflowException):
    pass


class BaseOperator:
    template_fields = ()

    def __init__(self, *, task_id, retries=0):
        self.task_id = task_id
        self.retries = retries
        self.log = logging.getLogger(task_id)


class PostgresHook:
    def __init__(self, postgres_conn_id):
        assert postgres_conn_id == "warehouse"

    @staticmethod
    def get_conn():
        return psycopg.connect()


def module(name, **members):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(members)


for package in ("airflow", "airflow.providers", "airflow.providers.postgres", "airflow.providers.postgres.hooks"):
    module(package)
module("airflow.exceptions", AirflowException=AirflowException, AirflowFailException=AirflowFailException)
module("airflow.models", BaseOperator=BaseOperator)
module("airflow.providers.postgres.hooks.postgres", PostgresHook=PostgresHook)


class Macros:
    @staticmethod
    def ds_add(day, days):
        return str(datetime.date.fromisoformat(day) + datetime.timedelta(days=days))


def rendered(value, context):
    if isinstance(value, dict):
        return {key: rendered(each, context) for key, each in value.items()}
    return jinja2.Template(value).render(context) if isinstance(value, str) else value


logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
names = {}
exec(sys.stdin.read(), names)  # pylint: disable=exec-used # the documents' own text
task = names[sys.argv[1]]
context = {"ds": sys.argv[2], "macros": Macros}
for field in task.template_fields:
    setattr(task, field, rendered(getattr(task, field), context))
task.interval = 0.2


def kill(_number, _frame):
    task.on_kill()
    sys.exit("killed")


signal.signal(signal.SIGTERM, kill)
try:
    print("returned", task.execute(context))
except AirflowException as error:
    sys.exit(f"{type(error).__name__}: {error}")
