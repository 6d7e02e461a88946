// exp, log and what follows from them, made of IEEE additions, multiplications and divisions only,
// so that every machine computes the same bits: libm picks its code by processor, and then
// simulations of one seed part ways. The relative error is below 1e-13.
//
// REQUIRES: no contraction to fused multiply-add (the build's default on x86-64;
// -ffp-contract=off).
#pragma once

namespace penstock {

// NaN for NaN; infinity above 709, 0 below -745.
double ExactExp(double x);
// NaN for negative numbers and NaN, -infinity for 0.
double ExactLog(double x);
// base^exponent of a positive base.
double ExactPow(double base, double exponent);
// The point of the standard normal distribution below which lies the share p, 0 < p < 1. The
// relative error is below 1.2e-9. SOURCE: P. J. Acklam's rational approximation.
double ExactNormalQuantile(double p);

}  // namespace penstock
