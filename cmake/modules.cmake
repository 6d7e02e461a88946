# The modules in the order of tools/layers.txt, with what each one links.
include(${CMAKE_SOURCE_DIR}/cmake/embed.cmake)
include(${CMAKE_SOURCE_DIR}/cmake/proto.cmake)

penstock_proto(proto/health.proto proto/vllm_engine.proto)

penstock_module(core)
penstock_module(wire DEPS core LIBS simdjson::simdjson yaml-cpp)
penstock_module(telemetry DEPS core LIBS fmt::fmt Threads::Threads)
penstock_module(model DEPS core)
penstock_module(config DEPS core wire model LIBS fmt::fmt)
penstock_module(net DEPS core telemetry LIBS OpenSSL::SSL zmq)
penstock_module(http DEPS core wire telemetry net)
penstock_module(grpc DEPS core telemetry net LIBS penstock_proto fmt::fmt nghttp2)
penstock_module(api DEPS core wire model TEST_LIBS penstock_proto)
penstock_module(kvcache DEPS core wire model LIBS xxhash zstd)
penstock_module(tokens DEPS core wire model LIBS Boost::json fmt::fmt simdjson::simdjson xxhash pcre2-8 utf8proc
                sentencepiece TEST_LIBS sentencepiece_train)
penstock_module(engine DEPS core model config wire LIBS xxhash)
file(GLOB profiles CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/profiles/*.yaml
     ${CMAKE_SOURCE_DIR}/profiles/*.csv)
penstock_embed(TARGET penstock_engine NAME profiles FUNCTION penstock::engine::ProfileFiles
               BASE ${CMAKE_SOURCE_DIR}/profiles FILES ${profiles})
penstock_module(workload DEPS core wire config LIBS fmt::fmt zstd)
file(GLOB workloads CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/workloads/*.yaml)
penstock_embed(TARGET penstock_workload NAME workloads FUNCTION penstock::workload::WorkloadFiles
               BASE ${CMAKE_SOURCE_DIR}/workloads FILES ${workloads})
penstock_module(sched DEPS core model config telemetry kvcache)
penstock_module(plugins DEPS core model config kvcache tokens sched LIBS xxhash)
penstock_module(director DEPS core model config telemetry kvcache sched plugins)
penstock_module(recording DEPS core wire model kvcache workload sched director telemetry LIBS fmt::fmt zstd sodium)
penstock_module(discovery DEPS core model config wire net director telemetry)
penstock_module(intake DEPS core telemetry model api net http tokens kvcache sched director)
penstock_module(events DEPS core wire telemetry net kvcache)
penstock_module(signals DEPS core model wire http net sched director telemetry)
penstock_module(proxy DEPS core wire telemetry model api http net director intake)
penstock_module(extproc DEPS core wire telemetry model api net grpc director intake LIBS fmt::fmt)
penstock_module(sim DEPS core wire telemetry http api model tokens engine config LIBS Boost::json)
penstock_module(admin DEPS core wire telemetry http kvcache sched director events LIBS Boost::json fmt::fmt)
file(GLOB console_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/console/*)
penstock_embed(TARGET penstock_admin NAME console FUNCTION penstock::admin::ConsoleFiles
               BASE ${CMAKE_SOURCE_DIR}/console FILES ${console_files})
penstock_module(lab DEPS core wire config model workload kvcache engine sched plugins director LIBS Boost::json fmt::fmt)
penstock_module(traffic DEPS core wire config http net LIBS Boost::json fmt::fmt)

# The commands are a library, so that their tests link them; the program adds main.cc.
file(GLOB app_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/app/*.cc)
set(app_tests ${app_sources})
list(FILTER app_tests INCLUDE REGEX "_test\\.cc$")
list(FILTER app_sources EXCLUDE REGEX "(_test|/main)\\.cc$")
add_library(penstock_app STATIC ${app_sources})
target_include_directories(penstock_app PUBLIC ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(penstock_app PUBLIC PENSTOCK_VERSION="${PROJECT_VERSION}")
set(PENSTOCK_COMMIT "" CACHE STRING "Commit that llm_d_epp_info tells; for builds that are published")
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/app/state_metrics.cc PROPERTIES
  COMPILE_DEFINITIONS PENSTOCK_COMMIT="${PENSTOCK_COMMIT}")
target_link_libraries(penstock_app PUBLIC penstock_proxy penstock_extproc penstock_sim penstock_admin
  penstock_lab penstock_traffic penstock_recording penstock_discovery penstock_signals penstock_events penstock_director penstock_plugins
  penstock_config penstock_tokens CLI11::CLI11 fmt::fmt Threads::Threads)
add_executable(penstock ${CMAKE_SOURCE_DIR}/src/app/main.cc)
target_link_libraries(penstock PRIVATE penstock_app)
if(NOT PENSTOCK_SANITIZE AND NOT PENSTOCK_FUZZ)
  # Two thirds of the CPU of an ext_proc exchange beside glibc's malloc: docs/performance.md.
  find_library(JEMALLOC_LIBRARY jemalloc REQUIRED)
  target_link_options(penstock PRIVATE -Wl,--no-as-needed)
  target_link_libraries(penstock PRIVATE ${JEMALLOC_LIBRARY})
endif()
if(PENSTOCK_TESTS AND app_tests)
  add_executable(app_test ${app_tests})
  target_link_libraries(app_test PRIVATE penstock_app GTest::gtest_main GTest::gmock)
  add_test(NAME app COMMAND app_test WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
endif()
