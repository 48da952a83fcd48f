"""Nights on the page.

`form` is what is asked before one starts: base model, prompts, a trial, pictures to learn from. `endpoints` plans,
starts, follows, stops and judges them. `queue` holds those that wait their turn.
"""

from konomi.web.nights.endpoints import NightEndpoints as NightEndpoints
from konomi.web.nights.endpoints import Verdicts as Verdicts
from konomi.web.nights.form import NightForm as NightForm
from konomi.web.nights.queue import QueueEndpoints as QueueEndpoints
