"""A clock that shows 21:59:57 when it is first needed, so that a test need not wait for the next minute."""

from datetime import datetime, timedelta


class Evening(datetime):
    """The time of day as it would be, had the process begun three seconds before ten in the evening."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: None = None) -> datetime:
        """Returns the moved time."""
        return datetime.now(tz) + cls.ahead


def fall() -> None:
    """Moves the clock `konomi night schedule` looks at."""
    from konomi.cli.night import schedule

    now = datetime.now()
    Evening.ahead = now.replace(hour=21, minute=59, second=57, microsecond=0) - now
    schedule.datetime = Evening
