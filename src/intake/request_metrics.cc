#include "intake/request_metrics.h"

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "core/text.h"
#include "director/director.h"
#include "model/endpoint.h"

namespace penstock::intake {
namespace {

constexpr std::array kLong = {.005, .025, .05,  .1,   .2,    .4,    .6,    .8,   1.,
                              1.25, 1.5,  2.,   3.,   4.,    5.,    6.,    8.,   10.,
                              15.,  20.,  30.,  45.,  60.,   120.,  180.,  240., 300.,
                              360., 480., 600., 900., 1200., 1800., 2700., 3600.};
constexpr size_t kTtftBuckets = 24;  // kLong up to 120 s
constexpr std::array kSched = {.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1};
constexpr std::array kRequestBytes = {64.,       128.,       256.,       512.,       1024.,
                                      2048.,     4096.,      8192.,      16384.,     32768.,
                                      65536.,    131072.,    262144.,    524288.,    1048576.,
                                      2097152.,  4194304.,   8388608.,   16777216.,  33554432.,
                                      67108864., 134217728., 268435456., 536870912., 1073741824.};
// 32778 is upstream's odd value; dashboards match on it.
constexpr std::array kInput = {1.,     8.,      16.,     32.,     64.,     128.,   256.,
                               512.,   1024.,   2048.,   4096.,   8192.,   16384., 32778.,
                               65536., 131072., 262144., 524288., 1048576.};
constexpr size_t kResponseByteBuckets = 15;
constexpr size_t kOutputBuckets = 12;
constexpr std::array kNormalizedTpot = {.001, .002, .005, .01, .02, .05, .1,
                                        .2,   .5,   1.,   2.,  5.,  10.};
constexpr std::array kTpot = {.0005, .00205, .005, .01, .02, .04, .06, .08, .1, .125,
                              .15,   .2,     .3,   .4,  .5,  .6,  .8,  1.,  2.};
constexpr std::array kItl = {.001, .005, .01, .02, .04, .06, .08, .1, .15, .2, .3, .5, .75, 1., 2.};
constexpr std::array kProcessing = {.0005, .001, .002, .005, .01, .015, .025, .04,
                                    .06,   .1,   .25,  .5,   1.,  2.5,  5.,   10.};
constexpr std::array kHitRatio = {0., .1, .2, .3, .4, .5, .6, .7, .8, .9, 1.};
constexpr std::array kHitBytes = {0.,    16.,   32.,   64.,   128.,   256.,   512.,
                                  1024., 2048., 4096., 8192., 16384., 32768., 65536.};
constexpr double kBytesPerToken = 4;  // as upstream reckons
constexpr size_t kMaxModels = 1000;
constexpr size_t kMaxFairnessIds = 1000;
constexpr size_t kMaxCachedSeries = 1000;
// Fairness ids are the client's to invent, and a histogram is twenty lines or more of the page for
// each: with 1,000 of them a scrape would be 40 MB.
constexpr size_t kMaxHistogramSeries = 200;
constexpr std::string_view kPriority = "0";

template <size_t N>
std::span<const double> First(const std::array<double, N>& buckets, size_t count = N) {
  return std::span<const double>(buckets).first(count);
}

// llm-d's word for one of ours, its own for itself; "" for what is no error there.
std::string_view LlmdCode(std::string_view code) {
  static constexpr std::pair<std::string_view, std::string_view> kCodes[] = {
      {"client_gone", ""},
      {"engine_gone", "ModelServerError"},
      {"timeout", "ModelServerError"},
      {"no_endpoint", "ServiceUnavailable"},
      {"saturated", "ResourceExhausted"},
      {"model_not_found", "NotFound"},
  };
  for (const auto& [own, theirs] : kCodes) {
    if (code == own) return theirs;
  }
  // Theirs are the ones that begin with a capital.
  return !code.empty() && code[0] >= 'A' && code[0] <= 'Z' ? code : "Unknown";
}

std::vector<std::string> Labels() {
  return {"model_name", "target_model_name", "fairness_id", "priority"};
}
std::vector<std::string> LabelsAnd(std::string extra) {
  std::vector<std::string> labels = Labels();
  labels.push_back(std::move(extra));
  return labels;
}

}  // namespace

RequestMetrics::RequestMetrics(telemetry::Registry& r, Options options)
    : options_(std::move(options)),
      models_(kMaxModels),
      fairness_ids_(kMaxFairnessIds),
      requests_(
          r.AddCounterFamily("llm_d_epp_request_total", "Requests received, by model.", Labels())),
      errors_(r.AddCounterFamily("llm_d_epp_request_error_total",
                                 "Requests that ended in an error, by code.",
                                 LabelsAnd("error_code"))),
      running_(r.AddGaugeFamily("llm_d_epp_request_running", "Requests being served.", Labels())),
      duration_(r.AddHistogramFamily("llm_d_epp_request_duration_seconds",
                                     "From the request's head to the end of the answer.", Labels(),
                                     kLong, kMaxHistogramSeries)),
      request_bytes_(r.AddHistogramFamily("llm_d_epp_request_size_bytes", "Size of request bodies.",
                                          Labels(), kRequestBytes, kMaxHistogramSeries)),
      response_bytes_(
          r.AddHistogramFamily("llm_d_epp_response_size_bytes", "Size of response bodies.",
                               Labels(), First(kInput, kResponseByteBuckets), kMaxHistogramSeries)),
      input_tokens_(r.AddHistogramFamily("llm_d_epp_request_input_tokens",
                                         "Prompt tokens as the engine reports them.", Labels(),
                                         kInput, kMaxHistogramSeries)),
      cached_tokens_(r.AddHistogramFamily("llm_d_epp_request_cached_tokens",
                                          "Prompt tokens that the engine had in its cache.",
                                          Labels(), kInput, kMaxHistogramSeries)),
      output_tokens_(r.AddHistogramFamily("llm_d_epp_request_output_tokens",
                                          "Generated tokens as the engine reports them.", Labels(),
                                          First(kInput, kOutputBuckets), kMaxHistogramSeries)),
      normalized_tpot_(r.AddHistogramFamily("llm_d_epp_request_ntpot_seconds",
                                            "Duration divided by the number of generated tokens.",
                                            Labels(), kNormalizedTpot, kMaxHistogramSeries)),
      ttft_(r.AddHistogramFamily("llm_d_epp_request_ttft_seconds",
                                 "From the request's head to the first byte of the answer's body.",
                                 LabelsAnd("streaming"), First(kLong, kTtftBuckets),
                                 kMaxHistogramSeries)),
      tpot_(r.AddHistogramFamily("llm_d_epp_request_streaming_tpot_seconds",
                                 "Time per output token after the first, streaming requests.",
                                 Labels(), kTpot, kMaxHistogramSeries)),
      itl_(r.AddHistogramFamily("llm_d_epp_request_streaming_itl_seconds",
                                "Time between two pieces of a streamed answer.", Labels(), kItl,
                                kMaxHistogramSeries)),
      processing_seconds_(r.AddHistogram(
          "llm_d_epp_request_processing_duration_seconds",
          "From the request's head to its dispatch to an engine; its body comes in between.",
          kProcessing)),
      hit_ratio_family_(r.AddHistogramFamily(
          "llm_d_epp_prefix_indexer_hit_ratio",
          "Share of a prompt's blocks that the picked endpoint is believed to hold.",
          {"plugin_name", "plugin_type"}, kHitRatio)),
      hit_bytes_family_(r.AddHistogramFamily(
          "llm_d_epp_prefix_indexer_hit_bytes",
          "Length of the prefix that the picked endpoint is believed to hold, 4 bytes a token.",
          {"plugin_name", "plugin_type"}, kHitBytes)),
      decision_seconds_(r.AddHistogram("llm_d_epp_scheduler_e2e_duration_seconds",
                                       "One scheduling decision, producers included.", kSched)),
      attempts_(r.AddCounterFamily(
          "llm_d_epp_scheduler_attempts_total",
          "Scheduling decisions by result and chosen endpoint.",
          {"status", "target_model_name", "endpoint_name", "namespace", "port"}, 4000)),
      client_errors_(r.AddCounterFamily(
          "penstock_client_errors_total",
          "Requests refused because of what the client sent, by code.", {"code"})),
      retries_(r.AddCounterFamily("penstock_retries_total",
                                  "Requests sent to another endpoint, by why the first try failed.",
                                  {"reason"})),
      engine_failures_(r.AddCounterFamily("penstock_engine_failures_total",
                                          "Tries on an engine that failed, by kind.", {"kind"})) {
  const auto& [name, type] = options_.prefix_producer;
  if (name.empty()) return;
  hit_ratio_ = &hit_ratio_family_.With({name, type});
  hit_bytes_ = &hit_bytes_family_.With({name, type});
}

RequestMetrics::~RequestMetrics() = default;

std::unique_ptr<RequestSeries> RequestMetrics::MakeSeries(const RequestLabels& labels) {
  const std::string_view m = models_.Limit(labels.model);
  const std::string_view t = models_.Limit(labels.target_model);
  const std::string_view f = fairness_ids_.Limit(labels.fairness_id);
  const std::string_view p = kPriority;
  return std::unique_ptr<RequestSeries>(new RequestSeries{
      std::string(m), std::string(t), std::string(f), requests_.With({m, t, f, p}),
      running_.With({m, t, f, p}), duration_.With({m, t, f, p}), request_bytes_.With({m, t, f, p}),
      response_bytes_.With({m, t, f, p}), input_tokens_.With({m, t, f, p}),
      cached_tokens_.With({m, t, f, p}), output_tokens_.With({m, t, f, p}),
      normalized_tpot_.With({m, t, f, p}), ttft_.With({m, t, f, p, "true"}),
      ttft_.With({m, t, f, p, "false"}), tpot_.With({m, t, f, p}), itl_.With({m, t, f, p})});
}

RequestSeries& RequestMetrics::Cache::Find(const RequestLabels& labels) {
  key_.clear();
  for (const std::string_view part : {labels.model, labels.target_model, labels.fairness_id}) {
    key_.append(Utf8Prefix(part, telemetry::kMaxLabelBytes)).push_back('\0');
  }
  const auto it = series_.find(key_);
  if (it != series_.end()) return *it->second;
  if (series_.size() < kMaxCachedSeries) {
    return Number(*series_.emplace(key_, metrics_.MakeSeries(labels)).first->second);
  }
  if (other_ == nullptr) {
    other_ = metrics_.MakeSeries({"other", "other", "other"});
    Number(*other_);
  }
  return *other_;
}

RequestSeries& RequestMetrics::Cache::Number(RequestSeries& series) {
  const auto number = static_cast<uint32_t>(targets_.size());
  series.target_number = targets_.try_emplace(series.target_model, number).first->second;
  return series;
}

void RequestMetrics::OnEnd(RequestSeries& series, const director::DecisionRecord& record,
                           uint64_t response_bytes, bool is_streamed) {
  series.duration.Observe(record.e2e_s);
  series.request_bytes.Observe(static_cast<double>(record.body_bytes));
  series.response_bytes.Observe(static_cast<double>(response_bytes));
  if (record.ttft_s >= 0) {
    (is_streamed ? series.ttft_streaming : series.ttft_unary).Observe(record.ttft_s);
  }
  if (!record.usage_known) return;
  const auto output = static_cast<double>(record.output_tokens);
  if (record.reported_input_tokens > 0) {
    series.input_tokens.Observe(static_cast<double>(record.reported_input_tokens));
  }
  if (record.cached_known) series.cached_tokens.Observe(static_cast<double>(record.cached_tokens));
  if (record.output_tokens > 0) {
    series.output_tokens.Observe(output);
    series.normalized_tpot.Observe(record.e2e_s / output);
  }
  if (is_streamed && record.output_tokens > 1 && record.ttft_s >= 0) {
    series.tpot.Observe((record.e2e_s - record.ttft_s) / (output - 1));
  }
}

void RequestMetrics::OnError(const RequestLabels& labels, std::string_view code) {
  if (options_.error_codes == ErrorCodes::kLlmd) code = LlmdCode(code);
  if (code.empty()) return;
  errors_
      .With({models_.Limit(labels.model), models_.Limit(labels.target_model),
             fairness_ids_.Limit(labels.fairness_id), kPriority, code})
      .Add();
}

void RequestMetrics::OnDispatch(const director::Attempt& attempt, Duration since_received) {
  processing_seconds_.Observe(ToSeconds(since_received));
  if (hit_ratio_ == nullptr || attempt.total_blocks == 0) return;
  hit_ratio_->Observe(attempt.hit_blocks / static_cast<double>(attempt.total_blocks));
  hit_bytes_->Observe(attempt.hit_blocks * kBytesPerToken * attempt.block_size_tokens);
}

void RequestMetrics::OnNoDecision(Duration took, std::string_view target_model) {
  decision_seconds_.Observe(ToSeconds(took));
  attempts_.With({"failure", models_.Limit(target_model), "", "", ""}).Add();
}

void RequestMetrics::Cache::OnDecision(Duration took, const RequestSeries& series,
                                       const director::Target& target) {
  metrics_.decision_seconds_.Observe(ToSeconds(took));
  if (chosen_.size() >= kMaxChosen) chosen_.clear();
  Chosen& chosen = chosen_[{series.target_number, target.slot}];
  // Making the labels anew takes 1,100 instructions.
  if (chosen.count == nullptr || chosen.endpoint != target.name || chosen.port != target.port) {
    const auto [space, name] =
        model::NamespaceAndName(target.name, metrics_.options_.pool_namespace);
    chosen = {std::string(target.name), target.port,
              &metrics_.attempts_.With({"success", metrics_.models_.Limit(series.target_model),
                                        name, space, std::to_string(target.port)})};
  }
  chosen.count->Add();
}

}  // namespace penstock::intake
