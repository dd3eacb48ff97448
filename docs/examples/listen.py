"""An observer hears everything that happens in a job, in order, before anybody acts on it."""

import sys
import tempfile

from derail import DefaultLogsSpecs, Std, start_processes
from derail.model.events import Event, Exited, JobControl, LineSeen, PhaseChanged


class Diary:
    """Notes the lines of the ranks, their ends, and the phases of the job."""

    wants_lines = True

    def __init__(self) -> None:
        self.entries: list[str] = []

    def attach(self, control: JobControl) -> None:
        """Called once, before the first rank is started."""

    def observe(self, event: Event) -> None:
        """Must not block: this runs in the thread that supervises the ranks."""
        match event:
            case LineSeen(rank=rank, text=text):
                self.entries.append(f"rank {rank} wrote {text!r}")
            case Exited(rank=rank, status=status):
                self.entries.append(f"rank {rank}: {status}")
            case PhaseChanged(phase=phase, rank=None):
                self.entries.append(phase)


def main() -> None:
    """Run one rank, and read the diary."""
    diary = Diary()
    with tempfile.TemporaryDirectory() as log_dir:
        start_processes(
            name="demo",
            entrypoint=sys.executable,
            args={0: ("-c", "print('step 1'); print('step 2')")},
            envs={0: {}},
            logs_specs=DefaultLogsSpecs(log_dir=log_dir, redirects=Std.ALL),
            observers=[diary],
        ).wait()
    print(*diary.entries, sep="\n")


if __name__ == "__main__":
    main()

# prints:
# running
# rank 0 wrote 'step 1'
# rank 0 wrote 'step 2'
# rank 0: exit 0
# done
