"""In the student's kernel: looks up names, reads attributes and calls, for the grader outside.

It decides nothing. The student's code can change this module as it can change everything else in
its process; all it gains is that the grader gets other values than it would.
"""

import importlib
import json
import random
import sys
import traceback

import numpy as np
from IPython import get_ipython
from IPython.display import publish_display_data
from values import decode, encode

MIME = "text/x-attn-answer"
_objects = []


def _refer(value):
    _objects.append(value)
    return {"object": [len(_objects) - 1, type(value).__name__]}


def _resolve(reference):
    return _objects[reference[0]]


def _perform(operation, arguments):
    if operation == "name":
        (name,) = arguments
        namespace = get_ipython().user_ns
        if name not in namespace:
            raise NameError(f"{name} is not defined")
        return namespace[name]
    if operation == "attribute":
        return getattr(*arguments)
    if operation == "seed":
        return _seed()
    if operation == "library":  # a function of attn_lib that is to run here
        module, name, args, kwargs = arguments
        return getattr(importlib.import_module(f"attn_lib.{module}"), name)(*args, **kwargs)
    function, args, kwargs = arguments
    return function(*args, **kwargs)


def _seed():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (a student may use it)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def answer(text):
    """Do what the grader asks for, and publish what comes of it."""
    try:
        operation, arguments = json.loads(text)
        value = _perform(operation, decode(arguments, _resolve))
        result = {"value": encode(value, _refer)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        where = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
        line = where[-1].line if where else ""
        result = {"error": [type(error).__name__, str(error)[:2000], (line or "")[:200]]}
    publish_display_data({MIME: json.dumps(result)})
