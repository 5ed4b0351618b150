"""Public recordings as plain CSV: position reports of ships (AIS) and pedestrians.

    python -m tracking.formats.convert ais SolentAIS.csv ais.csv
    python -m tracking.formats.convert pedestrians biwi_eth.txt eth.csv

What cannot be used is left out and counted, never altered; anything else that is wrong with a file is an
error with its line. The exit code is 0, 1 for a file that cannot be converted, 2 for a wrong command line.

Sources: NGA.STND.0036, "World Geodetic System 1984" (ellipsoid); ITU-R M.1371, messages 1 to 3 (AIS codes
for "not available"); Pellegrini et al. (ICCV 2009) and Lerner, Chrysanthou, Lischinski (Eurographics 2007),
pedestrians of ETH and UCY, annotated at 2.5 Hz.
"""

import os
import sys
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from tracking.checks import require_positive
from tracking.formats.csv import write_detections
from tracking.formats.detections import Detections
from tracking.formats.files import MAX_SCANS, read_rows
from tracking.formats.table import open_table
from tracking.program import Parser

AIS_COLUMNS = {  # spellings in lower case, of several publishers
    "time": ("time", "timestamp", "# timestamp", "basedatetime"),
    "MMSI": ("mmsi",),
    "latitude": ("latitude_degrees", "latitude", "lat"),
    "longitude": ("longitude_degrees", "longitude", "lon"),
}
EARTH_RADIUS, FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS84: m, 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Conversion(NamedTuple):
    """What was written, and how many rows were left out.

    repeated: rows of an object that already has one at that time.
    unusable: rows without a position, or farther than the range from the others.
    """

    detections: Detections
    repeated: int
    unusable: int

    def __str__(self) -> str:
        objects = len(np.unique(self.detections.extra["id"]))
        return (
            f"{len(self.detections.z)} rows of {objects} objects in {len(self.detections)} scans; "
            f"left out {self.repeated} repeated, {self.unusable} unusable"
        )


def tangent_plane(latitude_deg, longitude_deg, origin_deg=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in m on the plane that touches the ellipsoid WGS84 at the origin.

    Distances are too short by a share of about (distance / 15,600 km)^2: 0.3 m in 40 km.

    Args:
        latitude_deg, longitude_deg: (n,) positions at height 0.
        origin_deg: latitude and longitude of the origin; None: the median position.
    Returns:
        east (n,), north (n,), and the distances (n,) to the origin, straight through the earth.
    """
    latitude_deg, longitude_deg = np.atleast_1d(latitude_deg), np.atleast_1d(longitude_deg)
    if origin_deg is None:
        origin_deg = _median_position(latitude_deg, longitude_deg)
    offset = _geocentric(latitude_deg, longitude_deg) - _geocentric(*origin_deg)
    phi, lam = np.radians(origin_deg)
    east = np.array([-np.sin(lam), np.cos(lam), 0.0])
    north = np.array([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)])
    return offset @ east, offset @ north, np.linalg.norm(offset, axis=1)


def ais_to_csv(source, target, max_range: float = 100_000.0) -> Conversion:
    """Convert position reports of ships: CSV with Time, MMSI, latitude and longitude, deg.

    Times are in s after the first report, positions x east and y north in m of the plane that touches the
    earth at the median position, ids the MMSI numbers. Times without a zone are taken as UTC.

    Args:
        source, target: files; AIS_COLUMNS lists the accepted names of columns.
        max_range:      m from the median position; reports beyond are left out (transmission errors).
    Raises:
        ValueError: `path:line: what came; what is accepted`.
    """
    require_positive(max_range=max_range)
    _refuse_same(source, target)
    micros, mmsi, degrees = _read_ais(source)
    known = (np.abs(degrees) <= (90, 180)).all(axis=1)
    east, north, distance = tangent_plane(*degrees[known].T)
    near = np.flatnonzero(known)[distance <= max_range]
    plane = np.column_stack((east, north))[distance <= max_range]
    time, scan = np.unique(micros[near], return_inverse=True)
    first = _first_of_each(scan, mmsi[near])
    detections = Detections.from_rows(
        time=(time - time.min(initial=micros.max(initial=0))) / 1e6,
        scan=scan[first],
        z=plane[first],
        names=("x", "y"),
        extra={"id": mmsi[near][first]},
    )
    write_detections(target, detections)
    return Conversion(detections, int((~first).sum()), len(degrees) - len(near))


def pedestrians_to_csv(source, target, frame_rate: float = 25.0, frame_step: int = 10) -> Conversion:
    """Convert annotated pedestrians: rows of frame, id, x, y in m, separated by white space.

    Every annotated frame between the first and the last is a scan, also those without pedestrians.

    Args:
        source, target: files.
        frame_rate: frames of the video in a second.
        frame_step: frames from one annotated frame to the next; 10 at 25 Hz are 0.4 s.
    Raises:
        ValueError: `path:line: what came; what is accepted`, also for a frame between the annotated ones.
    """
    require_positive(frame_rate=frame_rate, frame_step=frame_step)
    _refuse_same(source, target)
    values, start = array("d"), None
    for row in read_rows(source, None, (4,)):
        frame = row.integer(0, "frame", 0, MAX_SCANS - 1)
        start = frame if start is None else start
        if (frame - start) % frame_step:
            raise row.error(
                f"frame is {frame} after {start}", f"accepted are steps of {frame_step}, or set frame_step"
            )
        values.extend((frame, row.integer(1, "id", 0, 2**31 - 1), *row.numbers(2, ("x", "y"), 1e9)))
    table = np.array(values).reshape(-1, 4)
    frames, label = table[:, :2].astype(np.int64).T
    scan = (frames - frames.min(initial=MAX_SCANS)) // frame_step
    first = _first_of_each(scan, label)
    detections = Detections.from_rows(
        time=np.arange(scan.max(initial=-1) + 1) * frame_step / frame_rate,
        scan=scan[first],
        z=table[first, 2:],
        names=("x", "y"),
        extra={"id": label[first]},
    )
    write_detections(target, detections)
    return Conversion(detections, int((~first).sum()), 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser("python -m tracking.formats.convert", "Recordings to plain CSV.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    ais = kinds.add_parser("ais", help="position reports of ships: Time, MMSI, latitude, longitude")
    walkers = kinds.add_parser("pedestrians", help="annotated pedestrians: frame id x y")
    for kind in (ais, walkers):
        kind.add_argument("source", metavar="IN")
        kind.add_argument("target", metavar="OUT")
    ais.add_argument(
        "--max-range", type=float, default=100_000.0, metavar="M", help="m (default %(default)s)"
    )
    walkers.add_argument("--frame-rate", type=float, default=25.0, metavar="HZ", help="(default %(default)s)")
    walkers.add_argument(
        "--frame-step", type=int, default=10, metavar="N", help="frames (default %(default)s)"
    )
    options = vars(parser.parse_args(arguments))
    convert = ais_to_csv if options.pop("kind") == "ais" else pedestrians_to_csv
    try:
        print(convert(**options))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _read_ais(path):
    """Time (n,) in us after 1970, MMSI (n,), and latitude with longitude (n, 2) in degrees."""
    header, rows = open_table(path, "Time,MMSI,Latitude_degrees,Longitude_degrees")
    names = [name.lower() for name in header.fields]
    at = {}
    for what, spellings in AIS_COLUMNS.items():
        at[what] = next((names.index(spelling) for spelling in spellings if spelling in names), None)
        if at[what] is None:
            raise header.error(f"no column of the {what}", f"accepted is one of {', '.join(spellings)}")
    values = array("d")
    for row in rows:
        values.append(_micros(row, at["time"]))  # exact, as it is below 2^53 until the year 2255
        values.append(row.integer(at["MMSI"], "MMSI", 0, 999_999_999))
        values.append(row.number(at["latitude"], "latitude", -91, 91))  # 91 and 181: not available
        values.append(row.number(at["longitude"], "longitude", -181, 181))
    table = np.array(values).reshape(-1, 4)
    micros, mmsi = table[:, :2].astype(np.int64).T
    return micros, mmsi, table[:, 2:]


def _micros(row, column):
    try:
        time = datetime.fromisoformat(row.fields[column])
    except ValueError:
        raise row.error(
            f"time is {row.fields[column]!r}", "accepted are ISO 8601 times, as 2016-01-12 13:02:11.218"
        ) from None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _median_position(latitude_deg, longitude_deg):
    """Latitude and longitude, about the first longitude: places at 180 degrees stay together."""
    if not len(latitude_deg):
        return 0.0, 0.0
    from_first = (longitude_deg - longitude_deg[0] + 180) % 360 - 180
    return np.median(latitude_deg), longitude_deg[0] + np.median(from_first)


def _geocentric(latitude_deg, longitude_deg):
    """Geocentric coordinates (..., 3) in m of points on the ellipsoid."""
    phi, lam = np.radians(latitude_deg), np.radians(longitude_deg)
    squash = (1 - FLATTENING) ** 2
    normal = EARTH_RADIUS / np.sqrt(np.cos(phi) ** 2 + squash * np.sin(phi) ** 2)
    x, y = normal * np.cos(phi) * np.cos(lam), normal * np.cos(phi) * np.sin(lam)
    return np.stack((x, y, squash * normal * np.sin(phi)), axis=-1)


def _first_of_each(scan, label):
    """Whether a row (n,) is the first of its label in its scan."""
    first = np.zeros(len(scan), bool)
    first[np.unique(np.stack((scan, label), axis=1), axis=0, return_index=True)[1]] = True
    return first


def _refuse_same(source, target):
    if os.path.exists(target) and os.path.samefile(source, target):
        raise ValueError(f"{os.fspath(target)} is the input; accepted is another file")


if __name__ == "__main__":
    sys.exit(main())
