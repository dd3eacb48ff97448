"""Puts derail's launcher below torch's agent and takes it away again."""

import torch.distributed.elastic.agent.server.local_elastic_agent as agent
from torch.distributed.elastic.multiprocessing import SignalException as TorchsSignalException

import derail.torch
from derail.launch.signals import REGISTRY, SignalException

before = agent.start_processes
put_back = derail.torch.install()
both = REGISTRY.exception("why", 15)
assert agent.start_processes is not before
assert isinstance(both, SignalException) and isinstance(both, TorchsSignalException) and both.sigval == 15
put_back()
assert agent.start_processes is before and REGISTRY.exception is SignalException
