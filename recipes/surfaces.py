"""Names that the clip factory's makers of people share with its renderer: materials, vertex attributes,
parts, paints.
"""

from __future__ import annotations

SKIN, EYE, TEETH, TONGUE, CLOTH, HARD = range(6)
"""How a triangle is shaded; the last two are seen from both sides."""

COORDINATE_U, COORDINATE_V, LIPS, MOUTH, OCCLUSION, LOCAL_X, LOCAL_Y, LOCAL_Z = range(8)
"""Columns of the vertex attributes: texture coordinates, masks, ambient light, direction from the eyeball's
centre.
"""

WHICH = LIPS
"""Column that holds the number of a garment's cloth tile or of a hard thing's paint."""

NOTHING, SKIN_PART, LIP_PART, MOUTH_PART, EYE_PART, BROW_PART, HAIR_PART, CLOTH_PART, GLASSES_PART = range(9)
"""Values of a clip's `parts`."""

(
    LIP_PAINT,
    LIP_GLOSS,
    MOUTH_PAINT,
    TONGUE_PAINT,
    TEETH_PAINT,
    SCLERA,
    IRIS,
    IRIS_RIM,
    PUPIL,
    GLASSES,
    METAL,
    PEAK,
) = range(12)
"""Rows of a figure's paint: linear RGB; LIP_GLOSS and PUPIL use the first number only. The last three are
hard things.
"""

PAINTS = 12
