"""`manage.py` with overridden constants, given as JSON by their dotted names in TEST_CONSTANTS."""

import json
import os
import sys
from importlib import import_module

import django
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    django.setup()
    for dotted, value in json.loads(os.environ["TEST_CONSTANTS"]).items():
        module, _, name = dotted.rpartition(".")
        assert hasattr(import_module(module), name), dotted
        setattr(import_module(module), name, value)
    execute_from_command_line(sys.argv)
