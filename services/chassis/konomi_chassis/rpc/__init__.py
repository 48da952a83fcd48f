"""What happens to a call before and after its servicer.

`interceptors` in order, on the threads of a call's lane (`lanes`): `admission` and `deadlines`, the messages of a call
(`calls`), `validation` by the `field_rules` a service brings, `error_translation` to a status, `telemetry`;
`pagination` of the lists a servicer returns. `health_probe` calls from outside, as an orchestrator does.
"""
