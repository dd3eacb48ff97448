"""Two function ranks return tensors."""

import tempfile

import derail
from contract.torch_ranks import give_tensor


def main():
    with tempfile.TemporaryDirectory() as logs:
        specs = derail.DefaultLogsSpecs(log_dir=logs)
        context = derail.start_processes("job", give_tensor, {0: (3,), 1: (4,)}, {0: {}, 1: {}}, specs)
        values = context.wait().return_values
    print([list(values[rank].shape) + [bool((values[rank] == 1).all())] for rank in (0, 1)])


if __name__ == "__main__":
    main()
