#include "workload/script.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/exact_math.h"
#include "workload/seeds.h"

namespace penstock::workload {
namespace {

// What belongs to every request: whether it is streamed, targets, and the shares of adapters and
// priorities.
class Classes {
 public:
  Classes(const Workload& workload, uint64_t seed)
      : seed_(seed),
        is_streamed_(workload.is_streamed),
        slo_(workload.slo),
        loras_(workload.load.lora_traffic_split),
        priorities_(workload.priorities) {}

  // `number`: of the session, or of the request where there is none.
  void Apply(uint64_t number, Job* job) const {
    job->is_streamed = is_streamed_;
    job->ttft_slo_s = ToSeconds(slo_.ttft);
    job->tpot_slo_s = ToSeconds(slo_.tpot);
    job->max_output_tokens = job->output_tokens;
    if (loras_.empty() && priorities_.empty()) return;
    Random random(NumberOf(seed_, Purpose::kClass, number));
    double point = random.Uniform();
    for (uint32_t i = 0; i < loras_.size(); ++i) {
      point -= loras_[i].split;
      if (point >= 0) continue;
      job->lora = i + 1;
      break;
    }
    point = random.Uniform();
    for (const PriorityShare& share : priorities_) {
      point -= share.share;
      if (point >= 0) continue;
      job->priority = share.priority;
      job->fairness_id = share.fairness_id;
      if (share.slo) {
        job->ttft_slo_s = ToSeconds(share.slo->ttft);
        job->tpot_slo_s = ToSeconds(share.slo->tpot);
      }
      break;
    }
  }

 private:
  uint64_t seed_;
  bool is_streamed_;
  Slo slo_;
  std::vector<LoraShare> loras_;
  std::vector<PriorityShare> priorities_;
};

// Shortens the parts of a first turn until they fit: what comes first and the answer keep their
// length before the question does.
void Fit(uint32_t limit, uint32_t* head, uint32_t* question, uint32_t* answer) {
  *head = std::min(*head, limit - 2);
  *answer = std::min(*answer, limit - *head - 1);
  *question = std::min(*question, limit - *head - *answer);
}

void AddPiece(uint64_t content, uint32_t tokens, std::vector<Piece>* pieces) {
  if (tokens > 0) pieces->push_back({content, tokens});
}

uint64_t TokensOf(const std::vector<Piece>& pieces) {
  uint64_t sum = 0;
  for (const Piece& piece : pieces) sum += piece.tokens;
  return sum;
}

uint32_t LimitOf(uint32_t of_file, uint32_t of_caller) {
  return of_caller == 0 ? of_file : std::min(of_file, std::max(of_caller, 16u));
}

// Every prompt is text of its own.
class RandomScript final : public Script {
 public:
  RandomScript(const Workload& workload, uint64_t seed, uint32_t limit)
      : seed_(seed),
        limit_(limit == 0 ? 2u << 30 : limit),
        input_(workload.data.input_distribution),
        output_(workload.data.output_distribution),
        classes_(workload, seed) {}

  Job Begin() override {
    const uint64_t number = next_++;
    Random random(NumberOf(seed_, Purpose::kRequest, number));
    uint32_t head = 0;
    uint32_t input = input_.DrawCount(random, 1);
    Job job;
    job.output_tokens = output_.DrawCount(random, 1);
    Fit(limit_, &head, &input, &job.output_tokens);
    job.prompt.push_back({random.Next(), input});
    job.output_content = NumberOf(seed_, Purpose::kAnswer, number);
    classes_.Apply(number, &job);
    return job;
  }

 private:
  const uint64_t seed_;
  const uint32_t limit_;
  const Distribution input_;
  const Distribution output_;
  const Classes classes_;
  uint64_t next_ = 0;
};

// In which order the prompts, or users, of a shared-prefix workload come: each once in a shuffled
// order and then again, or by the popularity of their groups.
class UserOrder {
 public:
  UserOrder(const SharedPrefix& shape, uint64_t seed)
      : per_group_(shape.num_prompts_per_group),
        order_(shape.num_groups * shape.num_prompts_per_group),
        random_(NumberOf(seed, Purpose::kOrder, 0)) {
    for (uint32_t i = 0; i < order_.size(); ++i) order_[i] = i;
    for (uint32_t i = static_cast<uint32_t>(order_.size()); i > 1; --i) {
      std::swap(order_[i - 1], order_[random_.Below(i)]);
    }
    if (shape.group_skew == 0) return;
    double sum = 0;
    for (uint32_t i = 0; i < shape.num_groups; ++i) {
      sum += ExactPow(i + 1.0, -shape.group_skew);
      up_to_.push_back(sum);
    }
  }

  uint32_t size() const { return static_cast<uint32_t>(order_.size()); }
  // The next one for whom `is_free` holds. REQUIRES: there is one.
  template <class F>
  uint32_t Next(const F& is_free) {
    if (up_to_.empty()) {
      for (;;) {
        const uint32_t user = order_[at_];
        at_ = at_ + 1 == size() ? 0 : at_ + 1;
        if (is_free(user)) return user;
      }
    }
    const double point = random_.Uniform() * up_to_.back();
    const auto group = std::upper_bound(up_to_.begin(), up_to_.end() - 1, point) - up_to_.begin();
    auto user = static_cast<uint32_t>(static_cast<uint64_t>(group) * per_group_ +
                                      random_.Below(per_group_));
    while (!is_free(user)) user = user + 1 == size() ? 0 : user + 1;
    return user;
  }

 private:
  uint32_t per_group_;
  std::vector<uint32_t> order_;
  std::vector<double> up_to_;  // cumulative popularity of groups
  Random random_;
  uint32_t at_ = 0;
};

// Groups that share a system prompt. Without chats each user has one question, which comes again.
class SharedPrefixScript final : public Script {
 public:
  SharedPrefixScript(const Workload& workload, uint64_t seed, uint32_t limit)
      : seed_(seed),
        shape_(workload.data.shared_prefix),
        limit_(LimitOf(shape_.max_model_len, limit)),
        classes_(workload, seed),
        order_(shape_, seed) {
    for (uint32_t group = 0; group < shape_.num_groups; ++group) {
      Random random(NumberOf(seed, Purpose::kGroup, group));
      system_tokens_.push_back(shape_.system_prompt_len.DrawCount(random, 0));
    }
    if (shape_.enable_multi_turn_chat) users_.resize(order_.size());
    num_free_ = order_.size();
  }

  bool CanBegin() const override { return num_free_ > 0; }

  Job Begin() override {
    if (shape_.enable_multi_turn_chat) return BeginTurn();
    const uint32_t user = order_.Next([](uint32_t) { return true; });
    Words words = WordsOf(user, 0);
    uint32_t system = system_tokens_[GroupOf(user)];
    Fit(limit_, &system, &words.question, &words.answer);
    Job job;
    AddPiece(SystemOf(user), system, &job.prompt);
    job.prompt.push_back({words.content, words.question});
    job.group = GroupOf(user);
    job.output_tokens = words.answer;
    job.output_content = NumberOf(seed_, Purpose::kAnswer, next_);
    classes_.Apply(next_, &job);
    ++next_;
    return job;
  }

  std::optional<Duration> OnEnd(uint64_t session, bool is_served) override {
    if (session == 0 || session > users_.size()) return std::nullopt;
    User& user = users_[session - 1];
    if (!user.is_waiting) return std::nullopt;
    user.is_waiting = false;
    ++num_free_;
    ++user.turn;
    if (is_served) user.context.insert(user.context.end(), {user.question, user.answer});
    if (shape_.turns > 0 && user.turn >= shape_.turns) user.BeginAnew();
    return std::nullopt;
  }

 private:
  struct User {
    uint32_t chat = 0;
    uint32_t turn = 0;
    bool is_waiting = false;
    Piece question;  // of the turn that waits
    Piece answer;
    std::vector<Piece> context;  // system prompt and the turns that were served
    void BeginAnew() {
      ++chat;
      turn = 0;
      context = {};
    }
  };

  uint32_t GroupOf(uint32_t user) const { return user / shape_.num_prompts_per_group; }
  uint64_t SystemOf(uint32_t user) const {
    return NumberOf(seed_, Purpose::kGroup, GroupOf(user), 1);
  }

  // What a user says in a turn; `key` tells the turns of a user apart.
  struct Words {
    uint64_t content;
    uint32_t question;
    uint32_t answer;
  };
  Words WordsOf(uint32_t user, uint64_t key) const {
    Random random(NumberOf(seed_, Purpose::kUser, user, key));
    Words words;
    words.question = shape_.question_len.DrawCount(random, 1);
    words.answer = shape_.output_len.DrawCount(random, 1);
    words.content = random.Next();
    return words;
  }

  Job BeginTurn() {
    const uint32_t number = order_.Next([&](uint32_t who) { return !users_[who].is_waiting; });
    User& user = users_[number];
    user.is_waiting = true;
    --num_free_;
    const auto key = [&] { return (uint64_t{user.chat} << 32 | user.turn) + 1; };
    Words words = WordsOf(number, key());
    if (TokensOf(user.context) + words.question + words.answer > limit_) {
      user.BeginAnew();
      words = WordsOf(number, key());
    }
    if (user.context.empty()) {
      uint32_t system = system_tokens_[GroupOf(number)];
      Fit(limit_, &system, &words.question, &words.answer);
      AddPiece(SystemOf(number), system, &user.context);
    }
    user.question = {words.content, words.question};
    user.answer = {NumberOf(seed_, Purpose::kAnswer, number, key()), words.answer};
    Job job;
    job.session = number + 1;
    job.group = GroupOf(number);
    job.prompt.reserve(user.context.size() + 1);
    job.prompt = user.context;
    job.prompt.push_back(user.question);
    job.output_tokens = words.answer;
    job.output_content = user.answer.content;
    classes_.Apply(job.session, &job);
    return job;
  }

  const uint64_t seed_;
  const SharedPrefix shape_;
  const uint32_t limit_;
  const Classes classes_;
  UserOrder order_;
  std::vector<uint32_t> system_tokens_;  // by group
  std::vector<User> users_;              // chats only
  uint32_t num_free_ = 0;
  uint64_t next_ = 0;
};

// Conversations that go on by themselves after each answer and a pause.
class ConversationScript final : public Script {
 public:
  ConversationScript(const Workload& workload, uint64_t seed, uint32_t limit)
      : seed_(seed),
        shape_(workload.data.conversations),
        limit_(LimitOf(shape_.max_model_len, limit)),
        classes_(workload, seed) {}

  Job Begin() override {
    const uint64_t number = next_++;
    const uint64_t text =
        shape_.num_conversations == 0 ? number : number % shape_.num_conversations;
    Talk talk(text, NumberOf(seed_, Purpose::kConversation, text));
    uint32_t dynamic = shape_.dynamic_system_prompt_len.DrawCount(talk.random, 0);
    talk.turns_left = shape_.turns_per_conversation.DrawCount(talk.random, 1);
    Draw(&talk);
    uint32_t shared = shape_.shared_system_prompt_len;
    Fit(limit_, &shared, &talk.question, &talk.answer);
    dynamic = std::min(dynamic, limit_ - shared - talk.question - talk.answer);
    AddPiece(NumberOf(seed_, Purpose::kGroup, 0), shared, &talk.context);
    AddPiece(NumberOf(seed_, Purpose::kConversation, text, 1), dynamic, &talk.context);
    const auto [it, is_new] = talks_.emplace(number + 1, std::move(talk));
    return Say(it->first, it->second);
  }

  std::optional<Duration> OnEnd(uint64_t session, bool is_served) override {
    const auto it = talks_.find(session);
    if (it == talks_.end()) return std::nullopt;
    Talk& talk = it->second;
    if (is_served) {
      talk.context.push_back({QuestionOf(talk), talk.question});
      talk.context.push_back({AnswerOf(talk), talk.answer});
    }
    const Duration pause = is_served ? talk.pause : std::max(talk.pause, kPauseAfterLoss);
    if (talk.turns_left > 0) Draw(&talk);
    if (talk.is_over || TokensOf(talk.context) + talk.question + talk.answer > limit_) {
      talks_.erase(it);
      return std::nullopt;
    }
    return pause;
  }

  Job Continue(uint64_t session) override { return Say(session, talks_.find(session)->second); }
  void Forget(uint64_t session) override { talks_.erase(session); }

 private:
  struct Talk {
    Talk(uint64_t text_number, uint64_t seed) : text(text_number), random(seed) {}
    uint64_t text;  // what it says, which another conversation may say too
    Random random;
    uint32_t turn = 0;
    uint32_t turns_left = 0;
    bool is_over = false;
    uint32_t question = 0;  // of the turn that waits or comes
    uint32_t answer = 0;
    Duration pause{0};
    std::vector<Piece> context;
  };

  void Draw(Talk* talk) const {
    talk->question = shape_.input_tokens_per_turn.DrawCount(talk->random, 1);
    talk->answer = shape_.output_tokens_per_turn.DrawCount(talk->random, 1);
    talk->pause = FromSeconds(shape_.tool_call_latency_sec.Draw(talk->random));
  }

  uint64_t QuestionOf(const Talk& talk) const {
    return NumberOf(seed_, Purpose::kConversation, talk.text, 2 * uint64_t{talk.turn});
  }
  uint64_t AnswerOf(const Talk& talk) const {
    return NumberOf(seed_, Purpose::kConversation, talk.text, 2 * uint64_t{talk.turn} + 1);
  }

  Job Say(uint64_t session, Talk& talk) {
    Job job;
    job.session = session;
    job.prompt.reserve(talk.context.size() + 1);
    job.prompt = talk.context;
    ++talk.turn;
    job.prompt.push_back({QuestionOf(talk), talk.question});
    job.output_tokens = talk.answer;
    job.output_content = AnswerOf(talk);
    --talk.turns_left;
    talk.is_over = talk.turns_left == 0;
    classes_.Apply(session, &job);
    return job;
  }

  const uint64_t seed_;
  const Conversations shape_;
  const uint32_t limit_;
  const Classes classes_;
  std::unordered_map<uint64_t, Talk> talks_;  // looked up only: its order would be no order
  uint64_t next_ = 0;
};

}  // namespace

std::unique_ptr<Script> MakeScript(const Workload& workload, uint64_t seed,
                                   uint32_t max_model_len) {
  switch (workload.data.kind) {
    case Data::Kind::kRandom:
      break;
    case Data::Kind::kSharedPrefix:
      return std::make_unique<SharedPrefixScript>(workload, seed, max_model_len);
    case Data::Kind::kConversations:
      return std::make_unique<ConversationScript>(workload, seed, max_model_len);
  }
  return std::make_unique<RandomScript>(workload, seed, max_model_len);
}

}  // namespace penstock::workload
