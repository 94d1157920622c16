// Writes llama.cpp's logits of a text's first n tokens, positions first to n - 2, as binary32.
#include "llama.h"
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>
int main(int, char ** argv) {
    llama_backend_init();
    auto model = llama_model_load_from_file(argv[1], llama_model_default_params());
    std::ifstream in(argv[2]); std::stringstream s; s << in.rdbuf(); std::string text = s.str();
    int n = atoi(argv[3]), first = atoi(argv[4]);
    auto vocab = llama_model_get_vocab(model);
    std::vector<llama_token> tokens(text.size() + 8);
    int count = llama_tokenize(vocab, text.data(), text.size(), tokens.data(), tokens.size(), true, false);
    tokens.resize(count); tokens.resize(n);
    auto p = llama_context_default_params();
    p.n_ctx = n; p.n_batch = n; p.n_ubatch = 512; p.n_threads = p.n_threads_batch = 2;
    p.type_k = p.type_v = GGML_TYPE_F32; p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    auto ctx = llama_init_from_model(model, p);
    auto batch = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; i++) { batch.token[i] = tokens[i]; batch.pos[i] = i; batch.n_seq_id[i] = 1; batch.seq_id[i][0] = 0; batch.logits[i] = i >= first; }
    batch.n_tokens = n;
    if (llama_decode(ctx, batch)) return 1;
    auto out = fopen(argv[5], "wb");
    for (int i = first; i < n - 1; i++) fwrite(llama_get_logits_ith(ctx, i), 4, llama_vocab_n_tokens(vocab), out);
    fclose(out);
    out = fopen("tokens.bin", "wb"); fwrite(tokens.data(), 4, n, out); fclose(out);
}
