"""Prints the table of airflow.txt by Airflow's own code.

    pip download --no-deps apache-airflow==2.10.5 && unzip apache_airflow-*.whl
    python3 airflow.py airflow/ti_deps/deps/trigger_rule_dep.py

Airflow itself need not be installed: what its rules do not need is replaced by nothing.
"""

import enum
import importlib.util
import itertools
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

RULES = "all_success all_done all_failed one_success one_failed one_done none_failed none_skipped none_failed_min_one_success"
STATES = {"S": "success", "F": "failed", "K": "skipped", "U": "upstream_failed"}


class State(str, enum.Enum):
    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"
    UPSTREAM_FAILED = "upstream_failed"
    REMOVED = "removed"


class Rule(str, enum.Enum):
    ALL_SUCCESS, ALL_FAILED, ALL_DONE = "all_success", "all_failed", "all_done"
    ALL_DONE_SETUP_SUCCESS, ALWAYS = "all_done_setup_success", "always"
    ONE_SUCCESS, ONE_FAILED, ONE_DONE = "one_success", "one_failed", "one_done"
    NONE_FAILED, NONE_SKIPPED, ALL_SKIPPED = "none_failed", "none_skipped", "all_skipped"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"


class Dep:
    def _passing_status(self, reason=""):
        return SimpleNamespace(passed=True, reason=reason)

    def _failing_status(self, reason=""):
        return SimpleNamespace(passed=False, reason=reason)


def load(path):
    """Airflow's module, over stand-ins for all that it imports."""
    given = {
        "airflow.models.taskinstance": {"PAST_DEPENDS_MET": "", "TaskInstance": MagicMock()},
        "airflow.exceptions": {"NotMapped": KeyError},
        "airflow.models.abstractoperator": {"NotMapped": KeyError},
        "airflow.models.expandinput": {"NotFullyPopulated": KeyError},
        "airflow.serialization.definitions.mappedoperator": {"is_mapped": lambda task: False},
        "airflow.ti_deps.deps.base_ti_dep": {"BaseTIDep": Dep},
        "airflow.utils.state": {"TaskInstanceState": State},
        "airflow.utils.task_group": {"MappedTaskGroup": type("MappedTaskGroup", (), {})},
        "airflow.utils.trigger_rule": {"TriggerRule": Rule},
        "airflow.task.trigger_rule": {"TriggerRule": Rule},
        "sqlalchemy": dict.fromkeys(("and_", "func", "or_", "select"), MagicMock()),
    }
    for name, members in given.items():
        for part in itertools.accumulate(name.split("."), "{}.{}".format):
            sys.modules.setdefault(part, ModuleType(part))
        sys.modules[name].__dict__.update(members)
    spec = importlib.util.spec_from_file_location("dep", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["dep"] = module
    source = open(path, encoding="utf-8").read()
    code = compile("from __future__ import annotations\n" + source, path, "exec")
    exec(code, module.__dict__)
    return module


def cell(module, rule, states):
    """What becomes of a task: by the state that Airflow sets, or else by whether it may run."""
    set_to = []
    plain = SimpleNamespace(is_setup=False, get_needs_expansion=lambda: False)
    upstream = [SimpleNamespace(task_id=f"u{n}", **vars(plain)) for n in range(len(states))]
    task = SimpleNamespace(
        trigger_rule=Rule(rule), is_teardown=False, task_group=None, upstream_list=upstream,
        upstream_task_ids={one.task_id for one in upstream},
        get_upstreams_only_setups=lambda: [], get_closest_mapped_task_group=lambda: None,
    )
    ended = [
        SimpleNamespace(task_id=one.task_id, task=one, state=State(STATES[state]), map_index=-1)
        for one, state in zip(upstream, states)
    ]
    ti = SimpleNamespace(
        task=task, map_index=-1, task_id="t", get_dagrun=lambda session: None,
        set_state=lambda state, session: set_to.append(state) or True,
    )
    context = SimpleNamespace(
        flag_upstream_failed=True, have_changed_ti_states=False,
        wait_for_past_depends_before_skipping=False,
        ensure_finished_tis=lambda run, session=None: ended,
    )
    rules = module.TriggerRuleDep()
    statuses = list(rules._evaluate_trigger_rule(ti=ti, dep_context=context, session=None))
    if set_to:
        return {"skipped": "skip", "upstream_failed": "fail"}[set_to[-1].value]
    return "runs" if all(status.passed for status in statuses) else "waits"


def main():
    module = load(sys.argv[1])
    rules = RULES.split()
    print("ups", *rules)
    for size in (1, 2, 3):
        for states in itertools.combinations_with_replacement("SFKU", size):
            print("".join(states), *(cell(module, rule, states) for rule in rules))


main()
