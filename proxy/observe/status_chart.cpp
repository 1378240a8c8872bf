// SPDX-License-Identifier: GPL-3.0-or-later
// Curves as SVG and numbers as people read them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "conf/utf8.hpp"
#include "proxy/observe/status_page.hpp"

namespace postern::proxy {
namespace {

constexpr int width = 480, height = 120, left = 44, right = 8, top = 8, bottom = 20;

/// The next of 1, 2, 5, 10, 20, ... so that the axis reads well and does not jump with every sample.
double ceiling(double largest) {
  if (!(largest > 1)) return 1;
  const double power = std::pow(10.0, std::floor(std::log10(largest)));
  for (const double step : {1.0, 2.0, 5.0, 10.0})
    if (largest <= step * power * (1 + 1e-9)) return step * power;
  return 10 * power;
}

}  // namespace

std::string html_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text.front());
    size_t length = 1;
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (c >= ' ' && c < 0x7F) {
          out += text.front();
        } else if (const conf::Character whole = conf::first_character(text); c >= 0x80 && whole.valid) {
          out += text.substr(0, whole.length);
          length = whole.length;
        } else {
          out += "\xEF\xBF\xBD";
        }
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string grouped(uint64_t n) {
  const std::string digits = std::to_string(n);
  std::string out;
  for (size_t at = 0; at < digits.size(); ++at) {
    if (at != 0 && (digits.size() - at) % 3 == 0) out += ',';
    out += digits[at];
  }
  return out;
}

std::string short_number(double n) {
  if (!std::isfinite(n)) return "-";
  if (n >= 1e9) return fmt::format("{:.3g}G", n / 1e9);
  if (n >= 1e6) return fmt::format("{:.3g}M", n / 1e6);
  if (n >= 1e4) return fmt::format("{:.3g}k", n / 1e3);
  if (n >= 100 || n == std::floor(n)) return fmt::format("{:.0f}", n);
  return fmt::format("{:.2g}", n);
}

std::string bytes_text(double n) {
  const char* unit = "B";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    if (n < 1024) break;
    n /= 1024;
    unit = next;
  }
  return n < 10 && *unit != 'B' ? fmt::format("{:.1f} {}", n, unit) : fmt::format("{:.0f} {}", n, unit);
}

std::string span_text(int64_t s) {
  if (s < 0) s = 0;
  if (s >= 2 * 86'400) return fmt::format("{} days", s / 86'400);
  if (s >= 3'600) return fmt::format("{} h {} min", s / 3'600, s % 3'600 / 60);
  if (s >= 60) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

std::string status_chart(std::string_view title, std::string_view unit, const std::vector<Curve>& curves) {
  double largest = 0;
  for (const Curve& curve : curves)
    for (const double v : curve.values) largest = std::max(largest, v);
  const double full = ceiling(largest);
  constexpr double plot_width = width - left - right, plot_height = height - top - bottom;
  const double step = plot_width / static_cast<double>(StatusHistory::capacity - 1);

  std::string out = fmt::format(
      "<figure><figcaption>{} <small>{}</small></figcaption>\n"
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}, the last hour\">",
      title, unit, width, height, title);
  for (const double part : {0.0, 0.5, 1.0}) {
    const double y = top + plot_height * (1 - part);
    out += fmt::format(
        "<line class=\"g\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
        left, width - right, y, y, left - 5, y + 3.5, short_number(full * part));
  }
  out += fmt::format("<text x=\"{}\" y=\"{}\">1 h ago</text>", left, height - 5);
  out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">now</text>", width - right, height - 5);
  for (size_t i = 0; i < curves.size(); ++i) {
    const std::vector<double>& values = curves[i].values;
    if (values.empty()) continue;
    out += fmt::format("<polyline class=\"c{}\" points=\"", i);
    double x = width - right - step * static_cast<double>(values.size() - 1);
    double y = 0;
    for (const double v : values) {
      const double share = std::isfinite(v) ? std::clamp(v / full, 0.0, 1.0) : 0.0;
      y = top + plot_height * (1 - share);
      out += fmt::format("{:.1f},{:.1f} ", x, y);
      x += step;
    }
    // Where it stands now; with a single sample that is all there is to see.
    out += fmt::format("\"/><circle class=\"c{}\" cx=\"{}\" cy=\"{:.1f}\" r=\"1\"/>", i, width - right, y);
  }
  out += "</svg>\n<ul class=\"legend\">";
  for (size_t i = 0; i < curves.size(); ++i)
    out += fmt::format("<li><i class=\"c{}\"></i>{} <b>{}</b></li>", i, html_text(curves[i].name),
                       curves[i].values.empty() ? "-" : short_number(curves[i].values.back()));
  return out + "</ul></figure>\n";
}

}  // namespace postern::proxy
