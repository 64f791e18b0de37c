import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from prefkit.errors import PrefkitError
from prefkit.skeletons.pose import PoseEstimator, decode_simcc, to_openpose

HEIGHT, WIDTH = 64, 48


def write_network(path, points=17, outputs=2, side=HEIGHT):
    """A network in which every point is where the picture is brightest, in half pixels as RTMPose answers."""
    nodes = []
    for name, axes in (("simcc_x", [1, 2]), ("simcc_y", [1, 3])):
        nodes += [
            helper.make_node("ReduceMax", ["input"], [f"{name}_line"], axes=axes, keepdims=0),
            helper.make_node("Unsqueeze", [f"{name}_line", "one"], [f"{name}_row"]),
            helper.make_node("Resize", [f"{name}_row", "", "twice"], [f"{name}_fine"], mode="nearest"),
            helper.make_node("Expand", [f"{name}_fine", "points"], [name]),
        ]
    graph = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, side, WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("simcc_x", "simcc_y")[:outputs]],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("twice", TensorProto.FLOAT, [3], [1.0, 1.0, 2.0]),
            helper.make_tensor("points", TensorProto.INT64, [3], [1, points, 1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def test_points_come_back_in_pixels_of_the_frame(tmp_path):
    estimate = PoseEstimator(write_network(tmp_path / "pose.onnx"))
    frames = np.zeros((2, 128, 160, 3), np.uint8)
    frames[0, 40:44, 100:104] = 255
    frames[1, 90:94, 20:24] = 255
    keypoints = estimate(frames)
    assert keypoints.shape == (2, 18, 3) and (keypoints[..., 2] == 1).all()
    assert np.abs(keypoints[0, :, :2] - (101.5, 41.5)).max() < 4
    assert np.abs(keypoints[1, :, :2] - (21.5, 91.5)).max() < 4


def test_whole_body_networks_give_face_and_hands(tmp_path):
    frame = np.zeros((1, 64, 48, 3), np.uint8)
    frame[0, 30, 20] = 255
    assert PoseEstimator(write_network(tmp_path / "pose.onnx", 133))(frame).shape == (1, 128, 3)


def test_simcc_is_decoded_by_its_own_resolution():
    columns, rows = np.zeros((2, 96)), np.zeros((2, 128))
    columns[0, 30], rows[0, 50] = 0.9, 0.4
    points = decode_simcc(columns, rows, (HEIGHT, WIDTH))
    assert points[0].tolist() == pytest.approx([15, 25, 0.4])
    assert points[1, 2] == 0


def test_cocos_points_become_openposes_with_a_neck():
    points = np.stack([np.arange(133.0), np.zeros(133), np.full(133, 0.9)], axis=1)
    points[5, 2] = 0.1
    ordered = to_openpose(points)
    assert ordered[:, 0].tolist()[:8] == [0, 5.5, 6, 8, 10, 5, 7, 9]
    assert ordered[:18, 0].tolist()[14:] == [2, 1, 4, 3]
    assert ordered[18:, 0].tolist() == list(range(23, 133))
    assert ordered[1, 2] == 0 and ordered[5, 2] == 0 and ordered[2, 2] == 1


def test_files_that_are_no_pose_network_are_refused(tmp_path):
    with pytest.raises(PrefkitError, match="there is no file"):
        PoseEstimator(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(PrefkitError, match="cannot be read as an ONNX network"):
        PoseEstimator(tmp_path / "broken.onnx")
    with pytest.raises(PrefkitError, match="gives 1 outputs; expected an RTMPose or DWPose network"):
        PoseEstimator(write_network(tmp_path / "one.onnx", outputs=1))
    with pytest.raises(PrefkitError, match="finds 20 points; expected COCO's 17 or COCO-WholeBody's 133"):
        PoseEstimator(write_network(tmp_path / "twenty.onnx", 20))(np.zeros((1, 64, 48, 3), np.uint8))
