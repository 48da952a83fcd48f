"""What happens to a call before and after its servicer.

`interceptors` in order, `admission` and `deadlines`, `validation` by the `field_rules` a service brings,
`error_translation` to a status, `telemetry`; `pagination` of the lists a servicer returns.
"""
