"""Pictures: drawn from known fields, and read back from what was drawn."""

import io

import numpy as np
from PIL import Image

from lumirkit.eval.pictures import RegisteredPair, as_pixels, as_png, plane, registration_figure

SHAPE = (20, 24, 28)


def pair(disp_vox):
    image = np.zeros(SHAPE, np.float32)
    image[5:15, 6:18, 7:21] = 200
    return RegisteredPair(image, image, image, disp_vox.astype(np.float32))


def drawn(figure, column, row=0):
    return figure.axes[6 * row + column]


def test_three_planes_of_six_things():
    figure = registration_figure(pair(np.zeros((*SHAPE, 3))), "title")
    names = [axes.get_title() for axes in figure.axes[:6]]
    assert names == ["fixed", "moving", "warped", "warped - fixed", "grid", "log-Jacobian"]
    sizes = [drawn(figure, 0, row).images[0].get_array().shape for row in range(3)]
    assert sizes == [(28, 24), (28, 20), (24, 20)]  # (up, across) of the planes orthogonal to x, y, z


def test_a_plane_points_upwards():
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    assert plane(volume, 0, 3)[5, 4] == volume[3, 4, 5]
    assert plane(volume, 1, 3)[5, 4] == volume[4, 3, 5]
    assert plane(volume, 2, 3)[5, 4] == volume[4, 5, 3]


def test_the_jacobian_of_a_stretch_and_its_folds():
    disp = np.zeros((*SHAPE, 3))
    disp[..., 0] = 0.5 * np.arange(20)[:, None, None]  # x -> 1.5 x
    figure = registration_figure(pair(disp))
    for row in range(3):
        values = drawn(figure, 5, row).images[0].get_array()
        np.testing.assert_allclose(values, np.log(1.5), rtol=1e-5)
        assert not drawn(figure, 5, row).collections
    disp[..., 0] = -1.5 * np.arange(20)[:, None, None]  # x -> -x / 2: everything is mirrored
    folded = drawn(registration_figure(pair(disp)), 5).collections[0].get_offsets()
    assert len(folded) == 26 * 22


def test_the_grid_is_where_the_voxels_come_from():
    disp = np.zeros((*SHAPE, 3))
    disp[..., 1] = 2
    lines = drawn(registration_figure(pair(disp)), 4).lines
    assert min(line.get_xdata().min() for line in lines) == 2  # across is y in the sagittal plane
    assert min(line.get_ydata().min() for line in lines) == 0


def test_the_png_is_the_drawing():
    pixels = as_pixels(registration_figure(pair(np.zeros((*SHAPE, 3)))))
    assert pixels.shape[2] == 3 and pixels.std() > 10
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(as_png(pixels)))), pixels)
