"""Decides whether a recorded history is linearizable (Herlihy and Wing 1990), and shows a smallest reason when not.

- `history` is what clients saw: operations with call, return and answer, any of which may be unknown
- `models` are the objects a history is judged by: register, counter, one key of a store; `log` is a log of entries
- `search` looks for an order that explains the history; `verdict` runs it over each key, within a bound on time
- `counterexample` reduces what is wrong to the few operations that contradict each other; `timeline` draws them

Strategy: the search of Wing and Gong with Lowe's improvements, and each key on its own (P-compositionality, Horn and
Kroening 2015). The problem is NP-complete, so there is a bound on time, and running out of it is a failure, never a
pass. How to use it on histories of one's own: docs/checker.md.
"""

from quorate.sim.checker.counterexample import CounterExample as CounterExample
from quorate.sim.checker.history import UNSEEN as UNSEEN
from quorate.sim.checker.history import Answer as Answer
from quorate.sim.checker.history import Model as Model
from quorate.sim.checker.history import Operation as Operation
from quorate.sim.checker.log import Append as Append
from quorate.sim.checker.log import Log as Log
from quorate.sim.checker.log import ReadEntries as ReadEntries
from quorate.sim.checker.log import ReadEntry as ReadEntry
from quorate.sim.checker.log import ReadLength as ReadLength
from quorate.sim.checker.models import Add as Add
from quorate.sim.checker.models import CompareAndSet as CompareAndSet
from quorate.sim.checker.models import Counter as Counter
from quorate.sim.checker.models import Delete as Delete
from quorate.sim.checker.models import Get as Get
from quorate.sim.checker.models import KeyValue as KeyValue
from quorate.sim.checker.models import Put as Put
from quorate.sim.checker.models import Read as Read
from quorate.sim.checker.models import Register as Register
from quorate.sim.checker.models import Write as Write
from quorate.sim.checker.verdict import Verdict as Verdict
from quorate.sim.checker.verdict import check as check
