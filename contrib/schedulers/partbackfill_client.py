#!/usr/bin/env python3
"""Runs a backfill of partbackfill under a label: starts it or finds it again, shows its progress, and says by its exit status how
it ended. The database is the one that libpq's environment names (PGHOST, PGDATABASE, PGSERVICE, PGPASSFILE ...). It works with
psycopg and with psycopg2.

    partbackfill_client.py --label fix-1234 events recompute_source workers=2 on_write=catch_up

exit status: 0 done (or ready, with publish=manual); 1 partitions failed, which are listed; 2 not started, or the server was away for
too long; 3 paused; 4 canceled or reverted; 128 + n stopped by signal n.
"""
import argparse
import re
import signal
import sys
import time

STATUS_OF = {"done": 0, "ready": 0, "failed": 1, "paused": 3, "canceled": 4, "reverted": 4}


class Stopped(Exception):
    """A signal has asked the process to end."""

    def __init__(self, number):
        super().__init__(f"stopped by signal {number}")
        self.number = number


class Server:
    """A connection that is made anew when it is lost, for up to `patience` seconds: a job outlives a restart or a failover."""

    def __init__(self, connect, patience=300):
        self.connect = connect
        self.patience = patience
        self.connection = self.open()

    def open(self):
        connection = self.connect()
        connection.autocommit = True  # a job begins when the transaction that has started it commits
        return connection

    def query(self, statement, parameters=()):
        """The rows. What it runs may run twice."""
        deadline = None
        while True:
            try:
                if self.connection.closed:
                    self.connection = self.open()
                with self.connection.cursor() as cursor:
                    cursor.execute(statement, parameters)
                    return cursor.fetchall()
            except Exception:
                if not self.connection.closed:
                    raise  # an error of the statement
                deadline = deadline or time.monotonic() + self.patience
                if time.monotonic() > deadline:
                    raise
            time.sleep(1)


class Backfill:
    """One job, by the label that stands for this piece of work."""

    def __init__(self, server, label):
        self.server = server
        self.label = label
        self.job = None

    def begin(self, target, source, arguments):
        """Starts the job and returns what it did: 'started', 'resumed', 'retried', 'found'. An unfinished job of the label is
        found again, and one that is paused goes on. Of one that has failed the failed partitions are tried again."""
        known = self.server.query(
            "SELECT job, state FROM backfill_status WHERE label = %s AND owner = current_user ORDER BY job DESC LIMIT 1", (self.label,))
        if known and known[0][1] in ("running", "ready"):
            self.job = known[0][0]
            return "found"
        if known and known[0][1] == "paused":
            self.job = known[0][0]
            self.server.query("SELECT backfill_resume(%s)", (self.job,))
            return "resumed"
        if known and known[0][1] == "failed":
            self.job = known[0][0]
            self.server.query("SELECT backfill_retry(%s)", (self.job,))
            return "retried"
        for name in arguments:
            if not re.fullmatch("[a-z_]+", name):
                raise ValueError(f'"{name}" is not the name of a parameter')
        named = "".join(f", {name} => %s" for name in arguments)
        started = self.server.query(f"SELECT backfill_start(%s, %s, label => %s{named})", (target, source, self.label, *arguments.values()))
        self.job = started[0][0]
        return "started"

    def progress(self):
        """State, and a line for people. A job that a restart has left without a worker goes on."""
        state, percent, bar, done, partitions, left, waiting_on = self.server.query(
            "SELECT state, percent, bar, done, partitions, eta::text, waiting_on FROM backfill_status WHERE job = %s", (self.job,))[0]
        if state == "running" and (waiting_on or "").startswith("no worker"):
            self.server.query("SELECT backfill_resume(%s)", (self.job,))
        line = f"job {self.job}: {state} {bar or ''} {percent or 0} %, {done} of {partitions} partitions"
        line += f", {left} left" if left else ""
        return state, line + (f", waits for {waiting_on}" if waiting_on else "")

    def wait(self, show, interval=2):
        """Blocks until the job rests, and returns its state. It asks now and then, and holds no snapshot meanwhile."""
        shown = None
        while True:
            state, line = self.progress()
            if line != shown:
                show(line)
                shown = line
            if state in STATUS_OF:
                return self.server.query("SELECT backfill_wait(%s, '1 minute')", (self.job,))[0][0]  # until it is tidied
            time.sleep(interval)

    def failed(self):
        """What is wrong with the job where no partition is, and a line for each partition that failed, with the reason."""
        errors = self.server.query(r"SELECT split_part(error, E'\n', 1) FROM backfill_status WHERE job = %s AND failed = 0", (self.job,))
        return [error for error, in errors] + [f"{partition}: {error} ({sqlstate}, attempt {attempts})" for partition, error, sqlstate, attempts in self.server.query(
            r"SELECT partition, split_part(error, E'\n', 1), sqlstate, attempts FROM backfill_progress"
            " WHERE job = %s AND state = 'failed' ORDER BY ordinal", (self.job,))]

    def stop(self, how):
        """'pause' or 'cancel' it; 'leave' does neither."""
        if self.job is not None and how in ("pause", "cancel"):
            self.server.query(f"SELECT backfill_{how}(%s)", (self.job,))


def connect_by_environment():
    try:
        import psycopg as driver
    except ImportError:
        import psycopg2 as driver
    return driver.connect("application_name=partbackfill_client")


def arguments_of(command_line):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", required=True, help="stands for this piece of work: who runs it again finds its job")
    parser.add_argument("--interval", type=float, default=2, help="seconds between two looks at the job (2)")
    parser.add_argument("--patience", type=float, default=300, help="seconds for which the server may be away (300)")
    parser.add_argument("--on-signal", choices=["leave", "pause", "cancel"], default="leave",
                        help="what becomes of the job on SIGINT, SIGTERM and SIGHUP (leave: it goes on)")
    parser.add_argument("target")
    parser.add_argument("source")
    parser.add_argument("parameter", nargs="*", metavar="PARAMETER=VALUE", help="of backfill_start")
    arguments = parser.parse_args(command_line)
    for parameter in arguments.parameter:
        if "=" not in parameter:
            parser.error(f'"{parameter}" is not PARAMETER=VALUE')
    return arguments


def main(command_line):
    arguments = arguments_of(command_line)

    def stop(number, _frame):
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    backfill = None
    try:
        backfill = Backfill(Server(connect_by_environment, arguments.patience), arguments.label)
        how = backfill.begin(arguments.target, arguments.source, dict(each.split("=", 1) for each in arguments.parameter))
        print(f"job {backfill.job}: {how}, label {arguments.label}", flush=True)
        state = backfill.wait(lambda line: print(line, flush=True), arguments.interval)
        if state == "failed":
            for line in backfill.failed():
                print(f"failed: {line}", file=sys.stderr)
        return STATUS_OF.get(state, 2)
    except Stopped as stopped:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if backfill is not None and backfill.job is not None:
            if arguments.on_signal != "leave":
                backfill.server.connection.close()  # a statement may be on its way
                backfill.stop(arguments.on_signal)
            print(f"{stopped}; job {backfill.job}: {arguments.on_signal}", file=sys.stderr)
        return 128 + stopped.number
    except Exception as error:
        print(f"partbackfill_client: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
