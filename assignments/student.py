"""The student's process as the tests see it: cells that run there, and stand-ins for its objects.

A test calls ``masked_mean(x, mask)``. Here ``masked_mean`` is a :class:`Remote`: the arguments
travel into the sandbox, the student's function runs there, and what it returns travels back. The
test and what it compares with never enter the sandbox.
"""

import json
import os
import threading
import time

import psutil

from assignments import isolation
from assignments.inside.values import decode, encode

LINE = 200 * 2**20  # bytes of one answer
RESTARTS = 8
START = 60.0  # seconds for the kernel to start


class Stopped(Exception):
    """The student's process was ended: too slow, too large, or dead by its own hand."""


class NotStarted(BaseException):
    """The sandbox did not start, which is not the student's fault.

    No Exception, so that nothing that runs a test takes it for what the student's code did.
    """


class StudentError(Exception):
    """What the student's code raised; the message names the exception."""


class Remote:
    """Stands for an object in the student's process: call it, or read its attributes."""

    def __init__(self, student, reference, generation):
        self._of = (student, reference, generation)

    def __call__(self, *args, **kwargs):
        return self._of[0].ask("call", self, list(args), kwargs)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._of[0].ask("attribute", self, name)

    def attn_inside(self, module, name, args, kwargs):
        """Call a function of attn_lib where this object is (see ``attn_lib.check``)."""
        return self._of[0].ask("library", module, name, list(args), kwargs)


class Student:
    """Runs a submission's cells in a sandbox, and starts it again if they bring it down.

    A cell that ends the process, or does not end itself, is left out when the others run again.

    Parameters
    ----------
    cells : list of str
        Sources of the code cells, in order.
    kind : str
        One of ``isolation.KINDS``.
    limits : isolation.Limits
    """

    def __init__(self, cells, kind, limits):
        self.cells, self.kind, self.limits = cells, kind, limits
        self.outputs = [[] for _ in cells]
        self.left_out = {}  # number of a cell -> why
        self.deadline = time.monotonic() + limits.total
        self._process = self._end = self._reason = None
        self._said = ""  # what the process wrote to standard error
        self._generation = 0
        self._names = {}  # (generation, number of an object) -> its name
        self._given_up = {}  # name -> why it is not called again

    def run(self):
        """Run all cells, in a new process if there is none."""
        while self._process is None:
            if self._generation == RESTARTS:
                raise Stopped(f"the submission brought its process down {RESTARTS} times")
            self._start()
            for number, source in enumerate(self.cells):
                if number in self.left_out:
                    continue
                try:
                    answer = self._exchange({"cell": source}, self.limits.cell, "this cell")
                except Stopped as stopped:
                    self.left_out[number] = str(stopped)
                    self.outputs[number] = [error_output("Stopped", str(stopped))]
                    break
                self.outputs[number] = answer.get("outputs", [])

    def name(self, name):
        """The value of a name, or a stand-in for it."""
        if name in self._given_up:
            raise Stopped(self._given_up[name])
        value = self.ask("name", name)
        if isinstance(value, Remote):
            self._names[value._of[2], value._of[1][0]] = name
        return value

    def ask(self, operation, *arguments):
        """What the student's process makes of an operation of ``inside/bridge.py``."""
        self.run()
        text = json.dumps([operation, encode(list(arguments), self._refer)])
        name = self._named(operation, arguments)
        try:
            answer = self._exchange({"ask": text}, self.limits.call, name or "your code")
        except Stopped as stopped:
            if name:
                self._given_up[name] = f"{stopped}; it is not called again"
            raise
        try:
            if "error" in answer:
                kind, message, line = map(str, answer["error"])
                if kind == "NotImplementedError":
                    raise StudentError("not solved yet")
                raise StudentError(f"{kind}: {message}" + (f" (in: {line})" if line else ""))
            return decode(answer["value"], self._stand_in)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise StudentError(f"what came back could not be read ({error})") from None

    def close(self):
        """End the process, if there is one."""
        if self._process is not None:
            self._end()
            self._process.wait()
            os.set_blocking(self._process.stderr.fileno(), False)  # a child may hold it open
            self._said = (self._process.stderr.read() or b"").decode(errors="replace").strip()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                try:
                    pipe.close()
                except OSError:  # what was written last was never read
                    pass
            self._process = None

    def _named(self, operation, arguments):
        """The name of the function that a call is to, if the student's code gave it one."""
        if operation != "call":
            return None
        _, reference, generation = arguments[0]._of
        return self._names.get((generation, reference[0]))

    def _refer(self, value):
        if not isinstance(value, Remote):
            raise TypeError(
                f"a test passed a {type(value).__name__} to the student's code; only plain data "
                "and objects that come from there can travel"
            )
        _, reference, generation = value._of
        if generation != self._generation:
            raise Stopped("your process had to be started again, and its objects are gone")
        return {"object": reference}

    def _stand_in(self, reference):
        kind = type(str(reference[1])[:60], (Remote,), {})  # so that messages name its class
        return kind(self, reference, self._generation)

    def _start(self):
        if time.monotonic() >= self.deadline:
            raise Stopped(self._used_up())
        self._generation += 1
        self._reason = None
        try:
            self._process, self._end = isolation.start(self.kind, self.limits)
            threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()
            self._receive(START, "the start")  # none of the student's code has run yet
        except (Stopped, OSError, isolation.NoIsolation) as error:
            said = (self._said or str(error)).splitlines()[-1]
            raise NotStarted(f"the sandbox did not start ({said})") from None

    def _used_up(self):
        return f"the {self.limits.total:.0f} s for the whole submission are used up"

    def _exchange(self, message, seconds, what):
        try:
            self._process.stdin.write((json.dumps(message) + "\n").encode())
            self._process.stdin.flush()
        except OSError:
            pass  # it is dead; the answer says so
        return self._receive(max(0.1, min(seconds, self.deadline - time.monotonic())), what)

    def _receive(self, seconds, what):
        """The next answer; a timer ends the process, which ends the waiting."""
        reason = f"{what} did not end within {seconds:.0f} s"
        timer = threading.Timer(seconds, self._stop, [reason])
        timer.start()
        try:
            line = self._process.stdout.readline(LINE)
        finally:
            timer.cancel()
        try:
            answer = json.loads(line)
            if isinstance(answer, dict) and not self._reason:
                return answer
        except (ValueError, RecursionError):
            pass
        reason = self._reason or f"{what} ended the process: killed, or out of memory"
        self.close()
        if time.monotonic() >= self.deadline:
            reason = self._used_up()
        raise Stopped(reason)

    def _stop(self, reason):
        self._reason = self._reason or reason
        if self._end:
            self._end()

    def _watch(self, process):
        """End a process that, with all its children, uses too much or is too many."""
        while process.poll() is None:
            memory = threads = 0
            try:
                for child in psutil.Process(process.pid).children(recursive=True):
                    memory += child.memory_info().rss
                    threads += child.num_threads()
            except psutil.Error:  # one of them has ended meanwhile
                pass
            if memory > self.limits.memory:
                self._stop(f"your code used more than {self.limits.memory / 2**30:.1f} GB")
            if threads > self.limits.processes:
                self._stop(f"your code started more than {self.limits.processes} processes")
            time.sleep(0.2)


def error_output(name, message):
    """An error as a notebook stores it."""
    return {"output_type": "error", "ename": name, "evalue": message, "traceback": [message]}
