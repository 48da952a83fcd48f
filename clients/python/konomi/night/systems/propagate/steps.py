"""A turn of self-propagation: its steps, each run again without harm, and the order in which they follow."""

import json
from dataclasses import asdict
from typing import Any

from konomi import errors, files
from konomi.night.alarms import Alarm, Ended, sentence
from konomi.night.draws import Word, plain
from konomi.night.gateway import manifests, services
from konomi.night.systems.base import Night, Stage, Steps, fitted, hyper_parameters, unchosen
from konomi.night.systems.propagate import growing_set, policy


class GrowthSteps:
    """What a turn of `propagate` does, one method a step."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.studio, self.settings = steps, steps.studio, steps.settings
        self.word = Word(self.settings.seed_token, self.settings.seed_class)

    def begin(self, kept: str) -> dict[str, Any]:
        """Looks at the set: without the members the owner graded below SSR since it was kept.

        Args:
            kept: digest of the set as it was left; empty where it begins.

        Returns:
            "set", its digest now, "members", "removed", and "bare", the word alone.
        """
        originals = list(self.settings.seed_images)
        if kept:
            grown = growing_set.read(self.studio, kept)
        else:
            grown = growing_set.first(originals, services.known(self.studio, originals), self.word)
        digests = [member["digest"] for member in grown["members"]]
        grown, removed = growing_set.confirmed(grown, services.known(self.studio, digests))
        members = [{name: one[name] for name in ("digest", "prompt", "depth")} for one in grown["members"]]
        digest = growing_set.keep(self.studio, grown)
        return {"set": digest, "members": members, "removed": removed, "bare": str(self.word)}

    def freeze(self, seen: dict[str, Any]) -> dict[str, Any]:
        """Freezes the manifest of a fit on the set: the originals weigh at least their share of every batch."""
        originals, members = set(self.settings.seed_images), seen["members"]
        share = policy.least_share(self.settings, len(members))
        heavy, light = policy.weights(len(originals), len(members) - len(originals), share)
        items = [
            {
                "digest": one["digest"],
                "caption": one["prompt"],
                "weight": heavy if one["digest"] in originals else light,
                "role": "selected",
            }
            for one in members
        ]
        prior = manifests.items_of(self.studio, self.settings.regularisation_items)
        return {
            "manifest": manifests.manifest(self.studio, [*items, *prior]),
            "n": len(items),
            "base_share": len(originals) * heavy / len(items),
            "set": seen["set"],
            "rater_version": self.studio.state()["rater_version"],
        }

    def fit(self, drawn: dict[str, Any], parent: dict[str, Any] | None, frozen: dict[str, Any]) -> dict[str, Any]:
        """Fits the word on the set from the base model; a base that cannot be taught words gets a LoRA."""
        request = self.steps.training(drawn["unit"], parent, frozen)
        words = [(self.word.token, self.word.class_word)]
        try:
            found = services.bind(self.studio, request, words, self.settings.propagate_steps, self.steps.beat)
            if found.get("why") not in services.UNFIT:
                return found
        except errors.InvalidArgument as error:
            if error.reason not in services.UNFIT:
                raise
        manifest = json.loads(self.studio.client.artifacts.get(frozen["manifest"]))
        for item in manifest["items"]:
            item["caption"] = plain(item["caption"])
        plainly = manifests.manifest(self.studio, manifest["items"])
        request |= {"manifest_digest": plainly, "request_id": files.derived_id(request["request_id"], "lora")}
        hyper = hyper_parameters(self.settings) | {"steps": self.settings.propagate_steps}
        return self.studio.train(request, hyper, self.steps.beat)

    def take_in(self, drawn: dict[str, Any], candidates: list[str], seen: dict[str, Any]) -> dict[str, Any]:
        """Lets the gate decide what the set takes in, and keeps the set.

        Args:
            drawn: the turn, as `Steps.turn` takes it.
            candidates: digests that were made for it.
            seen: what `begin` returned.

        Returns:
            What the gate says; "set", "size" and "deepest" after it; "confirm", what the owner is asked about;
            "seed_similarity" of the members to the originals; "end", why the set grows no further.
        """
        settings, grown = self.settings, growing_set.read(self.studio, seen["set"])
        members = [one["digest"] for one in grown["members"]]
        room = max(1, min(len(members), settings.propagate_target - len(members)))
        asked = {"originals": grown["originals"], "members": members, "room": room}
        limits = policy.selection(self.steps.turn(drawn))
        found = services.gate(self.studio, candidates, asked, limits)
        grown = growing_set.extended(grown, found, services.known(self.studio, found["taken"]))
        size = len(grown["members"])
        depths = [one["depth"] for one in grown["members"] if one["digest"] not in grown["originals"]]
        exhausted = bool(depths) and min(depths) >= settings.propagate_depth
        end = policy.ending(settings, size, exhausted, grown["rounds"])
        cosines = [one["cosine"] for one in grown["members"] if one["digest"] not in grown["originals"]]
        return found | {
            "set": growing_set.keep(self.studio, grown),
            "size": size,
            "deepest": max(depths, default=0),
            "near_copy_share": found["rejected"].get("near_copy", {"count": 0})["count"] / max(1, found["considered"]),
            "seed_similarity": sum(cosines) / len(cosines) if cosines else 1.0,
            "confirm": policy.to_confirm(found["taken"], size),
            "end": asdict(end) if end else None,
        }


def grow(night: Night, unit: int, position: int, stage: Stage) -> None:
    """Runs one turn of self-propagation: fit on the set, candidates by the fitted unit, what the gate lets in."""
    settings = night.steps.settings
    steps, entry = GrowthSteps(night.steps), night.open(unit, stage)
    parent = None if night.served["unit"] == 0 else night.served
    earlier = [one["selection"]["set"] for one in night.state["units"] if one.get("selection", {}).get("set")]
    kept = earlier[-1] if earlier else settings.propagate_set
    seen = night.step(f"unit-{unit}/observe", steps.begin, kept)
    drawn = {"unit": unit, "position": position, "system": stage.name, "seen": seen, "spent": night.state["nats"]}
    frozen = night.step(f"unit-{unit}/select", steps.freeze, seen)
    entry["selection"] = unchosen(frozen, [one["digest"] for one in seen["members"]])
    model = fitted(unit, night.step(f"unit-{unit}/train", steps.fit, drawn, parent, frozen), entry)
    night.evaluate(model, entry)
    night.judge(unit, entry, stage)
    made = night.make(drawn, model, policy.candidates(settings, len(seen["members"])))
    found = night.step(f"unit-{unit}/grow", steps.take_in, drawn, made, seen)
    entry["selection"] |= {name: value for name, value in found.items() if name != "end"}
    warnings = []
    if found["confirm"]:
        warnings.append(Alarm("confirm", {"count": len(found["confirm"]), "size": found["size"]}))
    if seen["removed"]:
        warnings.append(Alarm("removed", {"count": len(seen["removed"])}))
    entry["warnings"] = entry.get("warnings", []) + [asdict(one) | {"sentence": sentence(one)} for one in warnings]
    if found["end"]:
        raise Ended(Alarm(**found["end"]))
