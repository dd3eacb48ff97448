"""The part of mpi4py that is asked for the world, without one."""


class COMM_WORLD:
    """A world of one rank."""

    @staticmethod
    def Get_size():
        return 1


def Is_initialized():
    return True


def Is_finalized():
    return False
