"""The charts of the report as Plotly figures, without colours that depend on light or dark: `themes` has those."""

from earmark.reporting.html.charts.calibration import calibration_chart
from earmark.reporting.html.charts.candidates import curve_chart, noise_chart, trade_off_chart
from earmark.reporting.html.charts.confusion import confusion_chart, flow_chart
from earmark.reporting.html.charts.figure import Chart, themes
from earmark.reporting.html.charts.slices import slice_chart
from earmark.reporting.html.charts.spectrogram import spectrogram_chart

__all__ = [
    "Chart",
    "calibration_chart",
    "confusion_chart",
    "curve_chart",
    "flow_chart",
    "noise_chart",
    "slice_chart",
    "spectrogram_chart",
    "themes",
    "trade_off_chart",
]
