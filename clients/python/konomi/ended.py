"""How a night, or a stage of it, ends: why, and whether a guard halted it."""

from konomi.guards import Alarm


class Ended(Exception):
    """The night is over: why, and whether a guard halted it."""

    def __init__(self, alarm: Alarm, state: str = "finished", night: bool = False) -> None:
        """Takes why, "finished" or "halted", and whether a stage that follows ends with it."""
        super().__init__(alarm.name)
        self.alarm = alarm
        self.state = state
        self.night = night
