"""Declared agents: a command line, a declaration, an entry point, and messages for every mistake in them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from derail import faults
from derail.agents import registry
from derail.agents.custom import PLACEHOLDERS, SEEN, CommandAgent, Declaration, Report, read_declaration
from derail.agents.external.agent import Job
from derail.agents.external.messages import Seen
from derail.agents.native import NativeAgent
from derail.agents.registry import agent, agents
from derail.model.exit import ExitStatus
from derail.model.input_error import InputError
from derail.scenario.model import Scenario

DECLARED = """
name = "mine"
command = "mine -n {ranks} {script} {args}"
version = "mine --version"
promises = ["root_cause", "exit_code"]
logs = "{log_dir}/{rank}.{stream}"

[report]
file = "{workdir}/report.txt"
root_cause = 'blame (?P<rank>\\d+)'
failure = 'rank (?P<rank>\\d+) (exit (?P<code>-?\\d+)|signal (?P<signal>\\S+))( (?P<message>.*))?'
"""


@pytest.fixture
def declare(tmp_path):
    """Read a declaration from a file."""

    def read(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return read_declaration(path)

    return read


def job(tmp_path, **more):
    """Return a job of four ranks."""
    scenario = Scenario("t", 4, tmp_path / "my worker.py", args=("a b", "--c"), grace=1.5, **more)
    return Job(scenario, tmp_path, 4242)


def argv(command, job, node=0):
    """Return the filled-in command line."""
    return list(CommandAgent(command).invocations(job)[node].argv)


def test_placeholders_are_filled_in(tmp_path):
    """A value is one word anywhere; arguments and the whole command become several words."""
    script = str(tmp_path / "my worker.py")
    line = "run -n {ranks} --r={restarts} --grace {grace} --port={master_port} {script} {args}"
    filled = ["run", "-n", "4", "--r=0", "--grace", "1.5", "--port=4242", script, "a b", "--c"]
    assert argv(line, job(tmp_path)) == filled
    assert argv("run {command}", job(tmp_path)) == ["run", sys.executable, "-u", script, "a b", "--c"]
    assert argv("sh -c 'exec {script} {args}'", job(tmp_path))[2] == f"exec {script} {shlex.join(['a b', '--c'])}"


def test_each_node_has_its_own_command_line(tmp_path):
    """It has the number of its node and of its ranks."""
    agent = CommandAgent("run --node {node} --of {nodes} -n {ranks_per_node} {command}")
    lines = [" ".join(each.argv[1:7]) for each in agent.invocations(job(tmp_path, nodes=2))]

    assert (agent.nodes, lines) == (True, ["--node 0 --of 2 -n 2", "--node 1 --of 2 -n 2"])


def test_needs_without_a_placeholder_are_not_supported(tmp_path):
    """Arguments, restarts, nodes."""
    plain = CommandAgent("run {script}")

    assert "neither {args} nor {command}" in plain.unsupported(job(tmp_path).scenario)
    once = CommandAgent("run {command}")
    assert "{restarts}" in once.unsupported(job(tmp_path, restarts=1).scenario)
    assert "{node}" in once.unsupported(job(tmp_path, nodes=2).scenario)
    assert CommandAgent("run -r {restarts} {command}").unsupported(job(tmp_path, restarts=1).scenario) == ""


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("", "missing command line"),
        ("run -n {ranks}", "does not run the ranks' program: it needs {script} or {command}"),
        ("run {scrip}", "unknown placeholder 'scrip'; did you mean 'script'?"),
        ("run {script", "Write {{ and }} for braces"),
        ("run '{script}", "is not a command line: No closing quotation"),
    ],
)
def test_a_command_line_that_cannot_work_is_refused(command, problem):
    """At the creation of the agent, not at its run."""
    with pytest.raises(InputError) as refused:
        CommandAgent(command)

    assert problem in str(refused.value)


def test_a_declaration_has_all_values_of_its_file(declare):
    """Values in their types; declared promises unchanged, and that a job ends is always promised."""
    declared = declare(DECLARED)
    made = CommandAgent(declaration=declared)

    assert (made.name, made.command, made.promises) == (
        "mine",
        "mine -n {ranks} {script} {args}",
        {"ends", "root_cause", "exit_code"},
    )
    assert (declared.report.file, made.keeps_logs) == ("{workdir}/report.txt", True)


def test_former_words_for_promises_have_their_present_meaning(declare):
    """Declarations outlive the names of expectations."""
    declared = declare(DECLARED.replace('"exit_code"', '"outcome", "failed_ranks", "within"'))

    assert {"succeeded", "failures", "teardown_seconds"} <= declared.promises
    assert not {"outcome", "failed_ranks", "within"} & declared.promises


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name", "nam", "nam: unknown key 'nam'; did you mean 'name'?"),
        ("{ranks}", "{rank}", "command: unknown placeholder 'rank'; did you mean 'ranks'?"),
        ('"exit_code"', '"exitcode"', "promises: unknown promise 'exitcode'; did you mean 'exit_code'?"),
        ("{stream}", "{streem}", "logs: unknown placeholder 'streem'; did you mean 'stream'?"),
        ("blame (?P<rank>", "blame (?P<rnk>", "report.root_cause: 'blame (?P<rnk>\\\\d+)' has no rank"),
        ("blame (", "blame ((", "report.root_cause: 'blame ((?P<rank>\\\\d+)' is not a regular expression"),
        ("[report]", "[reports]", "reports: unknown key 'reports'; did you mean 'report'?"),
        ("promises =", "promisses =", "promisses: unknown key 'promisses'; did you mean 'promises'?"),
        ("{workdir}", "{workdir", "report.file: '{workdir/report.txt'"),
        ('name = "mine"', "name =", "not valid TOML"),
    ],
)
def test_each_mistake_in_a_declaration_is_named(declare, old, new, problem):
    """With its path in the file, and the nearest known word."""
    assert old in DECLARED
    with pytest.raises(InputError) as refused:
        declare(DECLARED.replace(old, new, 1))

    assert problem in str(refused.value)
    assert "mine.toml: " in str(refused.value)


def test_a_missing_declaration_is_named(tmp_path):
    """Like any file."""
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot be read"):
        read_declaration(tmp_path / "nowhere.toml")


def test_without_a_declaration_only_observable_promises_count():
    """An agent is not judged by a report that it never promised."""
    plain, restarts = CommandAgent("run {command}"), CommandAgent("run -r {restarts} {command}")
    tells = CommandAgent("run {command}", Declaration(report=Report(failure=r"(?P<rank>\d+) (?P<message>.*)")))

    assert (plain.name, plain.promises) == ("run", SEEN)
    assert restarts.promises == SEEN | {"restarts"}
    assert tells.promises == SEEN | {"root_cause", "failures", "message"}


def test_a_report_is_read_from_its_file(tmp_path, declare):
    """The last root cause and every failure count; invalid values are left out."""
    (tmp_path / "report.txt").write_text(
        "blame 0\nrank 0 exit 3\nrank 1 exit -9 it was killed\nrank 2 signal SIGTERM\nrank 3 signal NONSENSE\nblame 1\n"
    )
    said = CommandAgent(declaration=declare(DECLARED)).said(job(tmp_path), ("blame 3",), Seen())

    assert (said.blamed, list(said.failures)) == (1, [1, 0, 2, 3])
    assert [said.failures[rank].status for rank in range(4)] == [
        ExitStatus(code=3),
        ExitStatus(signal=9),
        ExitStatus(signal=15),
        None,
    ]
    assert said.failures[1].message == "it was killed"


@pytest.mark.parametrize(
    ("line", "doubt"),
    [
        ("rank  exit 3", []),
        ("the job exit 3", ["the group 'rank' is not part of the match 'the job exit 3'"]),
        ("rank one exit 3", ["the group 'rank' is 'one', not a rank, in the match 'rank one exit 3'"]),
    ],
)
def test_a_match_without_a_rank_is_reported(tmp_path, line, doubt):
    """A failure of an unknown rank cannot be ignored: the run cannot be judged."""
    report = Report(failure=r"(rank (?P<rank>\w+)|the job) exit (?P<code>\d+)")
    said = CommandAgent("run {command}", Declaration(report=report)).said(
        job(tmp_path), (f"rank 0 exit 1\n{line}\n",), Seen()
    )

    assert list(said.failures) == [0]
    assert list(said.doubts) == [f"report.failure of the declaration: {each}" for each in doubt]


def test_a_match_may_name_several_ranks(tmp_path):
    """As written by Slurm."""
    report = Report(failure=r"tasks? (?P<rank>[\d,-]+): (?P<message>.*)")
    said = CommandAgent("run {command}", Declaration(report=report)).said(
        job(tmp_path), ("srun: error: n1: tasks 0,2-3: Killed",), Seen()
    )

    assert ({rank: failure.message for rank, failure in said.failures.items()}) == dict.fromkeys((0, 2, 3), "Killed")


def test_a_missing_report_is_empty(tmp_path, declare):
    """The agent may have been killed before."""
    said = CommandAgent(declaration=declare(DECLARED)).said(job(tmp_path), ("blame 3",), Seen())

    assert (said.blamed, said.failures) == (None, {})


def test_logs_are_where_they_are_declared_to_be(tmp_path, declare):
    """By rank and stream."""
    found = CommandAgent(declaration=declare(DECLARED)).logs(job(tmp_path), Seen())

    assert found[2, "stderr"] == tmp_path / "logs" / "2.stderr"
    assert len(found) == 8


def test_the_version_is_the_programs_first_line(declare):
    """Its first line; a missing program has none."""
    tells = declare(f"command = 'run {{command}}'\nversion = '{sys.executable} -c \"print(7); print(8)\"'")

    assert CommandAgent(declaration=tells).version() == "7"
    assert CommandAgent(declaration=declare(DECLARED)).version() == ""
    assert "'/nowhere/run'" in CommandAgent("/nowhere/run {command}").unavailable()


def test_derails_own_agents_are_known_by_name():
    """An unknown name is refused with the nearest one."""
    assert {"native", "torchrun", "derail-torchrun", "torch_elastic"} <= agents().keys()
    assert isinstance(agent("native"), NativeAgent)
    with pytest.raises(InputError, match=r"'nativ'.*'native'"):
        agent("nativ")


@pytest.mark.parametrize("name", sorted(registry.OWN))
def test_each_of_derails_own_agents_can_be_made_anywhere(name):
    """Where its launcher is not installed it reports that."""
    made = agent(name)

    assert made.name == name
    assert "ends" in made.promises
    assert isinstance(made.unavailable(), str)
    assert isinstance(made.unsupported(Scenario("t", 2, Path("w.py"), faults.plan())), str)


def test_an_installed_package_provides_agents(tmp_path, monkeypatch):
    """By an entry point of the group; one that cannot be made is named."""
    package = tmp_path / "site"
    info = package / "offered-1.dist-info"
    info.mkdir(parents=True)
    (package / "offered.py").write_text(
        "class Mine:\n    name = 'mine'\n    promises = frozenset({'ends'})\n\n"
        "def broken():\n    raise OSError('no luck')\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[derail.agents]\nmine = offered:Mine\nbroken = offered:broken\nnative = offered:Mine\n"
    )
    monkeypatch.syspath_prepend(str(package))

    assert agent("mine").name == "mine"
    assert agent("native").name == "native"
    with pytest.raises(InputError, match=r"broken.*OSError: no luck"):
        agent("broken")


def test_every_placeholder_can_be_used(tmp_path):
    """The listed ones are exactly the available ones."""
    line = "run " + " ".join(f"x{{{name}}}" for name in PLACEHOLDERS)

    assert len(argv(line, job(tmp_path))) == len(PLACEHOLDERS) + 1
