"""The use case behind MapImages: a taste's images on the plane of their two main directions, region by region."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from konomi_rater.measures.elites import Behaviour, regions_of
from konomi_rater.measures.principal_axes import PrincipalAxes, principal_axes
from konomi_rater.selection.slates import LIKED
from konomi_rater.storage import slates as slate_record
from konomi_rater.storage import tastes
from konomi_rater.storage.embeddings import BASE_UNITS, MatrixView
from konomi_rater.storage.slates import SlateMap
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.exploration import REGIONS, Slating
from konomi_rater.usecases.workspace import Workspace

MOST_POINTS, USUAL_POINTS = 5000, 2000
MOST_FITTED = 20_000
"""Images the directions are learnt from at most: those with the smallest digests, which no order of arrival changes."""
AXES, MEASURES = 2, 4
"""Directions of the picture, and those regions are told by."""
CHUNK = 8192
KEPT = 4
"""Tastes whose layout is kept."""


@dataclass(frozen=True)
class MapPoint:
    """One image on the map; `utility` and `std` are None before the first fit."""

    digest: str
    place: tuple[float, float]
    grade: int
    utility: float | None
    std: float | None
    unit: str
    region: int


@dataclass(frozen=True)
class MapRegion:
    """A region that holds images: where they lie in the mean, how far apart, how many, and what was said of them."""

    region: int
    place: tuple[float, float]
    radius: float
    images: int
    graded: int
    liked: int
    island: bool


@dataclass(frozen=True)
class ImageMap:
    """A taste on a plane; the fields are the contract's."""

    points: list[MapPoint]
    explained: tuple[float, float]
    regions: list[MapRegion]
    total: int
    left_out: int
    graded_left_out: int
    without_pixels: int
    newest_unit: str
    version: int


@dataclass(frozen=True)
class _Layout:
    """Where every image of a view lies: places (N, 2) float32, regions (N,), order (N,) by digest."""

    places: np.ndarray
    regions: np.ndarray
    explained: tuple[float, float]
    order: np.ndarray


class ImageMapping:
    """The use case behind MapImages."""

    def __init__(self, workspace: Workspace, slating: Slating) -> None:
        self._workspace, self._slating = workspace, slating
        self._lock = threading.Lock()
        self._layouts: LRUCache[tuple[str, str, int, int, SlateMap | None], _Layout] = LRUCache(KEPT)

    def map(self, taste_id: str, count: int) -> ImageMap:
        """Lays out a taste's images.

        Args:
            taste_id: the taste.
            count: points at most; 0 for the usual number.

        Raises:
            NotFound: there is no such taste.
            FailedPrecondition: its active version was fitted on another embedder's vectors.
        """
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            grades = self._workspace.grade_column(taste, view, self._workspace.grades(connection, taste_id))
            divided = slate_record.read_map(connection, taste_id, taste.embedder)
        if not len(view):
            return ImageMap([], (0.0, 0.0), [], 0, 0, 0, 0, "", taste.active)
        layout = self._layout(taste, view, divided)
        newest = [unit for unit in view.own_units(1) if unit not in BASE_UNITS][-1:]
        drawn = np.array([unit in newest for unit in view.units.items])[view.units.numbers]
        shown = choose(layout.order[~view.without_pixels[layout.order]], grades > 0, drawn, count or USUAL_POINTS)
        there = int((~view.without_pixels).sum())
        graded_there = int(((grades > 0) & ~view.without_pixels).sum())
        return ImageMap(
            points=self._points(taste, view, layout, grades, shown),
            explained=layout.explained,
            regions=_regions(layout, grades, self._islands(taste_id)),
            total=len(view),
            left_out=there - len(shown),
            graded_left_out=graded_there - int((grades[shown] > 0).sum()),
            without_pixels=len(view) - there,
            newest_unit="".join(newest),
            version=taste.active,
        )

    def _islands(self, taste_id: str) -> frozenset[int]:
        discovery = self._slating.discovery(taste_id)
        return frozenset(island.region for island in discovery.tail.islands) if discovery else frozenset()

    def _layout(self, taste: TasteRow, view: MatrixView, divided: SlateMap | None) -> _Layout:
        key = (taste.uid, taste.embedder, view.generation, len(view), divided)
        with self._lock:
            layout = self._layouts.get(key)
        if layout is None:
            order = view.digests.order()
            axes = principal_axes(view.embeddings, np.sort(order[:MOST_FITTED]), MEASURES)
            region = self._slating.regions_shown(taste, view, divided) if divided else _by_axes(axes)
            layout = _laid_out(view, axes, region, order)
            with self._lock:
                self._layouts[key] = layout
        return layout

    def _points(
        self, taste: TasteRow, view: MatrixView, layout: _Layout, grades: np.ndarray, shown: np.ndarray
    ) -> list[MapPoint]:
        utility: list[float | None] = [None] * len(shown)
        std: list[float | None] = [None] * len(shown)
        if taste.active:
            head = self._workspace.active_head(taste).head
            prediction = head.predict(view.embeddings[shown], view.provenances_at(shown))
            utility, std = prediction.utility.tolist(), prediction.std.tolist()
        return [
            MapPoint(
                digest=view.digests[at],
                place=(float(layout.places[at, 0]), float(layout.places[at, 1])),
                grade=int(grades[at]),
                utility=utility[row],
                std=std[row],
                unit=view.units[at],
                region=int(layout.regions[at]),
            )
            for row, at in enumerate(shown.tolist())
        ]


def choose(order: np.ndarray, graded: np.ndarray, newest: np.ndarray, count: int) -> np.ndarray:
    """Returns the positions that become points, in the order of their digests.

    Up to half of the room is for graded images, up to a quarter for the newest unit's; what one kind leaves free goes
    to the others. Within a kind the smallest digests come first: a hash is as good as a draw, and never changes.

    Args:
        order: (M,) positions that may be shown, by digest.
        graded: (N,) bool, whether each image is graded.
        newest: (N,) bool, whether the newest unit made it.
        count: points at most.
    """
    said, made = graded[order], newest[order] & ~graded[order]
    first, second, rest = np.flatnonzero(said), np.flatnonzero(made), np.flatnonzero(~said & ~made)
    half, quarter = count // 2, count // 4
    parts = (first[:half], second[:quarter], rest, second[quarter:], first[half:])
    return np.asarray(order[np.sort(np.concatenate(parts)[:count])])


def _by_axes(axes: PrincipalAxes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what divides the images while no slate has: as a slate does, by the directions of the map."""
    real = max(1, int((axes.spread > 0).sum()))
    behaviour = Behaviour(axes.mean, axes.basis[:, :real] / axes.spread[:real].clip(1e-9))
    return lambda embeddings: regions_of(behaviour(embeddings), REGIONS, 0)


def _laid_out(
    view: MatrixView, axes: PrincipalAxes, region: Callable[[np.ndarray], np.ndarray], order: np.ndarray
) -> _Layout:
    """Places every image, some at a time: only places and regions are kept."""
    places, regions = np.zeros((len(view), AXES), np.float32), np.zeros(len(view), np.int32)
    for start in range(0, len(view), CHUNK):
        part = view.embeddings[start : start + CHUNK]
        places[start : start + CHUNK] = axes(part, AXES)
        regions[start : start + CHUNK] = region(part)
    return _Layout(places, regions, (float(axes.explained[0]), float(axes.explained[1])), order)


def _regions(layout: _Layout, grades: np.ndarray, islands: frozenset[int]) -> list[MapRegion]:
    found = []
    for region in np.unique(layout.regions).tolist():
        inside = layout.regions == region
        places, given = layout.places[inside].astype(np.float64), grades[inside]
        middle = places.mean(axis=0)
        radius = float(np.sqrt(((places - middle) ** 2).sum(axis=1).mean()))
        graded, liked = int((given > 0).sum()), int((given >= LIKED).sum())
        place = (float(middle[0]), float(middle[1]))
        found.append(MapRegion(region, place, radius, len(given), graded, liked, region in islands))
    return found
