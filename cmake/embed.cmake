# penstock_embed(TARGET library NAME header FUNCTION ns::Function BASE folder FILES files...)
#
# Puts files into a library by the assembler's .incbin, which costs no compile time whatever their size. Makes the
# header "embedded/<NAME>.h", which declares
#   std::span<const penstock::EmbeddedFile> ns::Function();   // in the order of FILES
# FILES are absolute, or relative to BASE; EmbeddedFile::name is the path below BASE. A changed file rebuilds one object.
function(penstock_embed)
  cmake_parse_arguments(ARG "" "TARGET;NAME;FUNCTION;BASE" "FILES" ${ARGN})
  foreach(required TARGET NAME FUNCTION BASE)
    if(NOT ARG_${required})
      message(FATAL_ERROR "penstock_embed: ${required} is missing")
    endif()
  endforeach()
  string(REGEX MATCH "^(.*)::([A-Za-z0-9_]+)$" matched "${ARG_FUNCTION}")
  if(NOT matched)
    message(FATAL_ERROR "penstock_embed: FUNCTION '${ARG_FUNCTION}' is not ns::Function")
  endif()
  set(namespace ${CMAKE_MATCH_1})
  set(function ${CMAKE_MATCH_2})

  set(folder ${CMAKE_BINARY_DIR}/embedded)
  set(header ${folder}/include/embedded/${ARG_NAME}.h)
  set(source ${folder}/${ARG_NAME}.cc)
  set(assembly "")
  set(symbols "")
  set(rows "")
  set(paths "")
  set(index 0)
  foreach(file ${ARG_FILES})
    get_filename_component(path ${file} ABSOLUTE BASE_DIR ${ARG_BASE})
    file(RELATIVE_PATH name ${ARG_BASE} ${path})
    set(symbol penstock_embedded_${ARG_NAME}_${index})
    string(APPEND assembly
      "asm(\".pushsection .rodata\\n.balign 16\\n\"\n"
      "    \".globl ${symbol}\\n.hidden ${symbol}\\n${symbol}:\\n\"\n"
      "    \".incbin \\\"${path}\\\"\\n\"\n"
      "    \".globl ${symbol}_end\\n.hidden ${symbol}_end\\n${symbol}_end:\\n.byte 0\\n.popsection\\n\");\n")
    string(APPEND symbols
      "extern \"C\" __attribute__((visibility(\"hidden\"))) const char ${symbol}[], ${symbol}_end[];\n")
    string(APPEND rows
      "      {\"${name}\", {${symbol}, static_cast<size_t>(${symbol}_end - ${symbol})}},\n")
    list(APPEND paths ${path})
    math(EXPR index "${index} + 1")
  endforeach()
  if(index EQUAL 0)
    set(body "  return {};\n")
  else()
    set(body "  static const std::array<EmbeddedFile, ${index}> files = {{\n${rows}  }};\n  return files;\n")
  endif()

  file(CONFIGURE OUTPUT ${header} CONTENT "// Made by cmake/embed.cmake.
#pragma once

#include <span>

#include \"core/embedded.h\"

namespace ${namespace} {
std::span<const penstock::EmbeddedFile> ${function}();
}  // namespace ${namespace}
" @ONLY)
  file(CONFIGURE OUTPUT ${source} CONTENT "// Made by cmake/embed.cmake.
#include \"embedded/${ARG_NAME}.h\"

#include <array>

${assembly}
${symbols}
namespace ${namespace} {
using penstock::EmbeddedFile;
std::span<const EmbeddedFile> ${function}() {
${body}}
}  // namespace ${namespace}
" @ONLY)
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS "${paths}" GENERATED TRUE)
  target_sources(${ARG_TARGET} PRIVATE ${source})
  target_include_directories(${ARG_TARGET} PUBLIC ${folder}/include)
endfunction()
