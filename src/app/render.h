// `penstock render`: a chat request as the text that a model's chat template makes of it.
#pragma once

namespace penstock::app {

int RunRender(int argc, char** argv);

}  // namespace penstock::app
