# Written by tools/stubs.py from __init__.py: change the names there and run `make generated`.
from outspoken.serve.app import create_app as create_app
from outspoken.serve.backend import Backend as Backend
from outspoken.serve.backend import OneModel as OneModel
from outspoken.serve.backend import Upstream as Upstream
from outspoken.serve.keys import ClientLimits as ClientLimits
from outspoken.serve.keys import Keys as Keys
from outspoken.serve.limits import ServerLimits as ServerLimits
from outspoken.serve.pool.pools import Pools as Pools
from outspoken.serve.pool.store import PoolStore as PoolStore
