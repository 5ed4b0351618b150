"""The JSON schema of foxglove.SceneUpdate, which an MCAP file of scenes brings along.

Primitives that are never written are objects without properties.

Source: github.com/foxglove/foxglove-sdk, schemas/jsonschema/SceneUpdate.json.
"""

SCENE = "foxglove.SceneUpdate"


def _object(title="", **properties):
    return {"type": "object", **({"title": title} if title else {}), "properties": properties}


def _list(of):
    return {"type": "array", "items": of}


_NUMBER, _INTEGER, _TEXT, _TRUTH = ({"type": t} for t in ("number", "integer", "string", "boolean"))
_XYZ = _object("foxglove.Vector3", x=_NUMBER, y=_NUMBER, z=_NUMBER)
_TURN = _object("foxglove.Quaternion", x=_NUMBER, y=_NUMBER, z=_NUMBER, w=_NUMBER)
_POSE = _object("foxglove.Pose", position=_XYZ, orientation=_TURN)
_COLOUR = _object("foxglove.Color", r=_NUMBER, g=_NUMBER, b=_NUMBER, a=_NUMBER)
_TIME, _DURATION = (_object(title, sec=_INTEGER, nsec=_INTEGER) for title in ("time", "duration"))
_BODY = {"pose": _POSE, "size": _XYZ, "color": _COLOUR}
_ARROW = _object(
    "foxglove.ArrowPrimitive",
    pose=_POSE,
    shaft_length=_NUMBER,
    shaft_diameter=_NUMBER,
    head_length=_NUMBER,
    head_diameter=_NUMBER,
    color=_COLOUR,
)
_WORDS = _object(
    "foxglove.TextPrimitive",
    pose=_POSE,
    billboard=_TRUTH,
    font_size=_NUMBER,
    scale_invariant=_TRUTH,
    color=_COLOUR,
    text=_TEXT,
)
_ENTITY = _object(
    "foxglove.SceneEntity",
    timestamp=_TIME,
    frame_id=_TEXT,
    id=_TEXT,
    lifetime=_DURATION,
    frame_locked=_TRUTH,
    metadata=_list(_object("foxglove.KeyValuePair", key=_TEXT, value=_TEXT)),
    arrows=_list(_ARROW),
    cubes=_list(_object("foxglove.CubePrimitive", **_BODY)),
    spheres=_list(_object("foxglove.SpherePrimitive", **_BODY)),
    cylinders=_list(_object("foxglove.CylinderPrimitive")),
    lines=_list(_object("foxglove.LinePrimitive")),
    triangles=_list(_object("foxglove.TriangleListPrimitive")),
    texts=_list(_WORDS),
    models=_list(_object("foxglove.ModelPrimitive")),
)
_DELETION = _object("foxglove.SceneEntityDeletion", timestamp=_TIME, type=_INTEGER, id=_TEXT)
SCHEMA = _object(SCENE, deletions=_list(_DELETION), entities=_list(_ENTITY))
