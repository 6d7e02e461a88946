#include "lab/summary.h"

#include <tuple>

namespace penstock::lab {
namespace {

constexpr size_t kMaxFlows = 10'000;

double Rate(double amount, Duration over) {
  return over > Duration(0) ? amount / ToSeconds(over) : 0;
}

}  // namespace

void Summary::Add(const Outcome& outcome) {
  ++requests_;
  if (!outcome.is_served) return;
  const workload::Job& job = outcome.job;
  const double ttft = ToSeconds(outcome.ttft);
  const double e2e = ToSeconds(outcome.e2e);
  ttft_.Add(ttft);
  e2e_.Add(e2e);
  double tpot = 0;
  if (job.output_tokens > 1) {
    tpot = (e2e - ttft) / (job.output_tokens - 1.0);
    tpot_.Add(tpot);
  }
  prompt_tokens_ += job.prompt_tokens();
  cached_tokens_ += outcome.cached_tokens;
  output_tokens_ += job.output_tokens;
  const double ttft_slo = job.ttft_slo_s > 0 ? job.ttft_slo_s : slo_.ttft_s;
  const double tpot_slo = job.tpot_slo_s > 0 ? job.tpot_slo_s : slo_.tpot_s;
  if ((ttft_slo <= 0 || ttft <= ttft_slo) && (tpot_slo <= 0 || tpot <= tpot_slo)) ++good_;
  const std::string flow = job.fairness_id.empty() ? std::to_string(job.group) : job.fairness_id;
  auto found = flows_.find(flow);
  if (found == flows_.end()) {
    if (flows_.size() >= kMaxFlows) return;
    found = flows_.emplace(flow, Share{}).first;
  }
  found->second.sum += e2e;
  ++found->second.count;
}

double Summary::tokens_per_s() const {
  return Rate(static_cast<double>(output_tokens_), totals_.end);
}
double Summary::requests_per_s() const {
  return Rate(static_cast<double>(ttft_.count()), totals_.end);
}
double Summary::hit_rate() const {
  return prompt_tokens_ == 0
             ? 0
             : static_cast<double>(cached_tokens_) / static_cast<double>(prompt_tokens_);
}
double Summary::goodput() const {
  return requests_ == 0 ? 0 : static_cast<double>(good_) / static_cast<double>(requests_);
}

double Summary::fairness() const {
  double sum = 0, squares = 0;
  for (const auto& [name, share] : flows_) {
    const double mean = share.sum / static_cast<double>(share.count);
    sum += mean;
    squares += mean * mean;
  }
  return squares == 0 ? 1 : sum * sum / (static_cast<double>(flows_.size()) * squares);
}

std::vector<std::pair<std::string, double>> Summary::Numbers() const {
  std::vector<std::pair<std::string, double>> numbers;
  for (const auto& [name, sketch, scale, unit] :
       {std::tuple{"ttft", &ttft_, 1.0, "_s"}, std::tuple{"tpot", &tpot_, 1e3, "_ms"},
        std::tuple{"e2e", &e2e_, 1.0, "_s"}}) {
    const std::string stem = name;
    numbers.emplace_back(stem + "_mean" + unit, sketch->mean() * scale);
    for (const auto& [label, q] : {std::pair{"_p50", 0.5}, {"_p90", 0.9}, {"_p99", 0.99}}) {
      numbers.emplace_back(stem + label + unit, sketch->Quantile(q) * scale);
    }
  }
  numbers.emplace_back("output_tokens_per_s", tokens_per_s());
  numbers.emplace_back("requests_per_s", requests_per_s());
  numbers.emplace_back("goodput_share", goodput());
  numbers.emplace_back("hit_share", hit_rate());
  numbers.emplace_back("fairness_index", fairness());
  numbers.emplace_back("lost_requests", static_cast<double>(lost()));
  numbers.emplace_back("preemptions", static_cast<double>(totals_.preemptions));
  numbers.emplace_back("makespan_s", ToSeconds(totals_.end));
  numbers.emplace_back("accelerator_s", totals_.accelerator_seconds);
  return numbers;
}

bool IsBetterHigher(std::string_view number) {
  return number.ends_with("_per_s") || number.ends_with("_share") || number.ends_with("_index");
}

}  // namespace penstock::lab
