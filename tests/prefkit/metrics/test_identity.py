"""Identity and subject consistency with networks that the user names: 1 on a frozen clip, and said which network."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prefkit.errors import PrefkitError
from prefkit.metrics.identity import ARCFACE_POINTS, aligned_face, first_and_previous, similarity
from prefkit.metrics.metric import NotScored
from prefkit.synthetic.portrait import make_portrait


def network(path, size, rank=4):
    """Means of 4 × 4 blocks of the picture, through a random matrix: an embedding of 16 numbers."""
    weights = np.random.default_rng(0).standard_normal((3 * 16, 16)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[size // 4] * 2, strides=[size // 4] * 2),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    reads = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size][:rank])
    gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])
    graph = helper.make_graph(nodes, "net", [reads], [gives], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return {"arcface": network(folder / "arcface.onnx", 112), "dino": network(folder / "dino.onnx", 224)}


def portrait_and(other_from, **faults):
    mine, other = make_portrait(21_000_000), make_portrait(21_000_003)
    frames = mine.frames.copy()
    frames[other_from:] = other.frames[other_from:]
    return frames, mine


def test_consistency_is_one_on_a_frozen_clip_and_falls_when_the_person_changes(score, weights):
    frames, _ = portrait_and(25)
    frozen = np.repeat(frames[:1], 25, axis=0)
    changed, _ = portrait_and(12)
    for name in ("identity_consistency", "subject_consistency"):
        values = [
            score(name, clip, condition={"synthetic": True}, weights=weights).value
            for clip in (frozen, frames, changed)
        ]
        assert values[0] == pytest.approx(1, abs=1e-6)
        assert values[0] > values[1] > values[2]


def test_similarity_is_that_of_the_reference_image(score, weights, tmp_path):
    from prefkit.media import write_image

    frames, portrait = portrait_and(25)
    values = {}
    for name, reference in (("own", portrait.reference), ("other", make_portrait(21_000_003).reference)):
        write_image(tmp_path / f"{name}.png", reference)
        condition = {"synthetic": True, "reference_image": str(tmp_path / f"{name}.png")}
        found = score("identity_similarity", frames, condition=condition, weights=weights)
        values[name] = found.value
    assert 1 >= values["own"] > values["other"]
    assert found.details["network"]["variant"] == "arcface: arcface.onnx" and found.details["frames"] == 5
    with pytest.raises(NotScored, match="no reference image"):
        score("identity_similarity", frames, condition={"synthetic": True}, weights=weights)


def test_real_faces_need_points_to_be_aligned_by(score, weights):
    frames, _ = portrait_and(25)
    with pytest.raises(NotScored, match="--weights yunet=PATH"):
        score("identity_consistency", frames, weights=weights)
    with pytest.raises(NotScored, match="--weights dino="):
        score("subject_consistency", frames)


def test_a_file_that_is_no_such_network_is_one_sentence(score, weights, tmp_path):
    frames, _ = portrait_and(25)
    (tmp_path / "text.onnx").write_text("no network")
    for file, words in ((tmp_path / "text.onnx", "cannot be read as ONNX"), (weights["arcface"], "expected a network")):
        with pytest.raises(PrefkitError, match=words):
            score("subject_consistency", frames, weights={"dino": file})
    with pytest.raises(PrefkitError, match="no YuNet model"):
        score("no_face_ratio", frames, weights={"yunet": tmp_path / "text.onnx"})


def test_the_nearest_similarity_is_found_and_a_face_lands_on_its_points():
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    points = (ARCFACE_POINTS - 50) @ (2.5 * turn).T + (300, 200)
    matrix = similarity(points, ARCFACE_POINTS)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], ARCFACE_POINTS, atol=1e-9)
    frame = np.zeros((500, 600, 3), np.uint8)
    x, y = np.round(points[2]).astype(int)
    frame[y - 3 : y + 4, x - 3 : x + 4] = 255
    row, column, _ = np.unravel_index(aligned_face(frame, points).argmax(), (112, 112, 3))
    np.testing.assert_allclose((column, row), ARCFACE_POINTS[2], atol=3)


def test_consistency_is_the_mean_of_both_cosines():
    a, b = np.array([1.0, 0]), np.array([0, 2.0])
    assert first_and_previous(np.stack([a, a, b])) == pytest.approx((1 + 0 + 1 + 0) / 4)
