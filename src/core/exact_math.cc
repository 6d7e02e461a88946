#include "core/exact_math.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace penstock {
namespace {

constexpr double kLn2High = 6.93147180369123816490e-01;  // 32 bits, so that a multiple is exact
constexpr double kLn2Low = 1.90821492927058770002e-10;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// 2^e times x, for results from the subnormal on.
double Scale(double x, int e) {
  const auto power = [](int n) {
    return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
  };
  if (e > 1023) return x * power(1023) * power(e - 1023);
  if (e < -1022) return x * power(-1022) * power(e + 1022);
  return x * power(e);
}

}  // namespace

double ExactExp(double x) {
  if (!(x == x)) return x;
  if (x > 709.7) return kInfinity;
  if (x < -745.1) return 0;
  const double n =
      static_cast<double>(static_cast<int64_t>(x / 0.6931471805599453 + (x < 0 ? -0.5 : 0.5)));
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln 2 / 2
  // Taylor's series: the 14th term is below 1e-17.
  double sum = 1;
  for (int i = 13; i > 0; --i) sum = 1 + sum * r / i;
  return Scale(sum, static_cast<int>(n));
}

double ExactLog(double x) {
  if (!(x == x) || x < 0) return std::numeric_limits<double>::quiet_NaN();
  if (x == 0) return -kInfinity;
  if (x == kInfinity) return x;
  int e = 0;
  if (x < std::numeric_limits<double>::min()) {
    x *= 0x1p54;
    e = -54;
  }
  const auto bits = std::bit_cast<uint64_t>(x);
  e += static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000fffffffffffffULL) | 0x3ff0000000000000ULL);
  if (m > 1.4142135623730951) {
    m /= 2;
    ++e;
  }
  // log m = 2 atanh s, |s| <= 0.1716: the 11th term is below 1e-17.
  const double s = (m - 1) / (m + 1);
  const double square = s * s;
  double sum = 0;
  for (int i = 21; i > 0; i -= 2) sum = sum * square + 1.0 / i;
  return 2 * s * sum + e * kLn2Low + e * kLn2High;
}

double ExactPow(double base, double exponent) { return ExactExp(exponent * ExactLog(base)); }

double ExactNormalQuantile(double p) {
  constexpr double kA[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                           1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr double kB[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                           6.680131188771972e+01, -1.328068155288572e+01};
  constexpr double kC[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                           -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  constexpr double kD[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                           3.754408661907416e+00};
  constexpr double kTail = 0.02425;
  const auto tail = [&](double share) {
    const double q = std::sqrt(-2 * ExactLog(share));
    return (((((kC[0] * q + kC[1]) * q + kC[2]) * q + kC[3]) * q + kC[4]) * q + kC[5]) /
           ((((kD[0] * q + kD[1]) * q + kD[2]) * q + kD[3]) * q + 1);
  };
  if (p < kTail) return tail(p);
  if (p > 1 - kTail) return -tail(1 - p);
  const double q = p - 0.5;
  const double r = q * q;
  return (((((kA[0] * r + kA[1]) * r + kA[2]) * r + kA[3]) * r + kA[4]) * r + kA[5]) * q /
         (((((kB[0] * r + kB[1]) * r + kB[2]) * r + kB[3]) * r + kB[4]) * r + 1);
}

}  // namespace penstock
