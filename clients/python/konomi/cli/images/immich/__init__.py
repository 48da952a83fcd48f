"""The pictures of an Immich server: graded the way their owner would, brought into a taste, marked where that is asked.

The command is `command`; `server` speaks with the one server that the settings name, `assets` reads which pictures it
has, `scoring` fetches and scores them so that the same command goes on after a stop, and `marks` writes stars or tags
and remembers which of them konomi wrote. Nothing is written unless that is asked, and never over what somebody else
wrote.
"""
