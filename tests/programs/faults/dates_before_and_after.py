"""Dates that were made before and after a clock fault are compared, checked and pickled."""

import datetime
import json
import pickle

from derail.faults import fail_point

old = datetime.datetime(2020, 1, 2, 3, 4, 5)
fail_point("now")
new = datetime.datetime.now()


class Own(datetime.datetime):
    """A date of the program itself."""


own = Own(2021, 1, 1)
print(
    json.dumps(
        [
            isinstance(old, datetime.datetime),
            isinstance(new, datetime.date),
            isinstance(old, Own),
            isinstance(own, datetime.datetime),
            issubclass(Own, datetime.date),
            old < new,
            pickle.loads(pickle.dumps(old)) == old,
            pickle.loads(pickle.dumps(new)) == new,
        ]
    ),
    flush=True,
)
