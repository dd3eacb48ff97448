"""What a rank knows of pytest's configuration."""

import os
import sys

import pytest
from notes import note


@pytest.mark.ranks(1)
def test_it(request, from_conftest):
    config = request.config
    fixtures = request.session._fixturemanager
    names = vars(fixtures).get("_arg2node2fixturedefs") or vars(fixtures)["_arg2fixturedefs"]
    note(
        {
            "options": {name: repr(value) for name, value in vars(config.option).items() if name != "basetemp"},
            "own": (config.getoption("--own"), config.getini("own_ini"), config.stash_of_conftest),
            "plugins": sorted(name for name, _ in config.pluginmanager.list_name_plugin() if not name.isdigit()),
            "fixtures": sorted(names),
            "paths": [str(config.rootpath), str(config.inipath), config.args, str(config.invocation_params.dir)],
            "directory": os.getcwd(),
            "path": list(dict.fromkeys(sys.path)),
            "filters": config.getini("filterwarnings"),
            "modules": sorted(name for name in sys.modules if name in ("conftest", "test_it")),
        }
    )
    assert from_conftest == 1
