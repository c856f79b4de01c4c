# Sets openai_sources: requests and answers of the OpenAI API, free of sockets and of the engine.
set(openai_sources
  openai/api_error.cpp
  openai/chat_request.cpp
  openai/completion_request.cpp
  openai/generation_parameters.cpp
  openai/json_objects.cpp
  openai/object_reader.cpp
  openai/response.cpp
  openai/text_assembler.cpp
  openai/tokenize_request.cpp
  openai/valid_utf8.cpp)
