"""In the sandbox: runs a Jupyter kernel for the student's cells, and talks to the grader by pipe.

Each line of standard input is a request, each line of standard output its answer:

    {"cell": SOURCE}          -> {"outputs": [...]}, as a notebook stores them
    {"ask": JSON OF A TEXT}   -> {"value": ...} or {"error": ...}, of bridge.answer

The limits are set here, before any of the student's code runs; they hold for all its processes.
"""

import json
import os
import resource
import sys

import nbformat
from nbclient import NotebookClient

MIME = "text/x-attn-answer"
NO_ANSWER = {"error": ["NoAnswer", "it gave no answer", ""]}
PRINTED = 2_000_000  # characters of outputs of a cell; more is dropped


class Client(NotebookClient):
    """A client that forgets what a cell prints beyond the limit."""

    room = PRINTED

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "error"):
            if MIME not in msg["content"].get("data", {}):
                self.room -= len(json.dumps(msg["content"], default=str))
            if self.room < 0:
                return None
        return super().process_message(msg, cell, cell_index)

    def run(self, source, **options):
        """The outputs of a cell; an error is one of them."""
        self.room = PRINTED
        cell = nbformat.v4.new_code_cell(source)
        self.execute_cell(cell, 0, **options)
        return cell.outputs

    def serve(self, requests, answers):
        for line in requests:
            request = json.loads(line)
            if "cell" in request:
                answer = {"outputs": self.run(request["cell"])}
            else:
                source = f"import bridge; bridge.answer({request['ask']!r})"
                outputs = self.run(source, store_history=False)
                found = [o["data"][MIME] for o in outputs if MIME in o.get("data", {})]
                answer = json.loads(found[-1]) if found else NO_ANSWER
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def limit(memory, processes, file_size, seconds):
    """Hard limits: bytes of address space, processes, bytes a file, seconds of one processor."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        if most is not None:
            resource.setrlimit(what, (most, most))


def main():
    limits = json.loads(sys.argv[1])
    # The pipe is this process's alone; what the student's processes write goes elsewhere.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    limit(**limits)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell()])
    options = {"kernel_name": "python3", "extra_arguments": ["--log-level=CRITICAL"]}
    client = Client(notebook, timeout=None, allow_errors=True, **options)
    with client.setup_kernel():
        answers.write(json.dumps({"ready": True}) + "\n")
        answers.flush()
        client.serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
